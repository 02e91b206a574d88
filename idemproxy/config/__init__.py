"""YAML in, settings and rules out."""

from idemproxy.config.loader import load, load_text, without_file
from idemproxy.config.model import schema

__all__ = ["load", "load_text", "schema", "without_file"]
