"""YAML in, settings and rules out."""
