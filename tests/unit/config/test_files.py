"""Files that a configuration is read from, and those it cannot be."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from idemproxy.config import load
from idemproxy.errors import ConfigError


def _error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return str(caught.value)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_bytes("\ufeffupstream: http://h\r\nnamespace: shop # ä\r\n".encode())
    assert load(path, {}).namespace == "shop"


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_text("\nupstream: h\n")
    assert _error(path).startswith(f"{path}:2:11: upstream: ")


def test_no_file_a_directory_and_a_name_that_cannot_be(tmp_path: Path) -> None:
    assert _error(tmp_path / "none.yaml") == f"{tmp_path / 'none.yaml'}: there is no such file; name a YAML file"
    assert _error(tmp_path) == f"{tmp_path}: is a directory; name a YAML file in it"
    assert "cannot be read" in _error(tmp_path / "a\0b")
    assert "cannot be read" in _error(tmp_path / ("x" * 5_000))


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    # root may read every file, so the mode of a real one would prove nothing there
    monkeypatch.setattr(Path, "open", refuse)
    assert _error(tmp_path / "i.yaml").endswith(
        "i.yaml: cannot be read (Permission denied); name a YAML file that can be"
    )


def test_a_file_that_is_not_utf_8_or_far_too_large(tmp_path: Path) -> None:
    path = tmp_path / "i.yaml"
    path.write_bytes(b"upstream: http://h\nnamespace: caf\xe9\n")
    assert _error(path).startswith(f"{path}:2:15: found a byte that is not UTF-8; save the file as UTF-8")
    path.write_bytes("upstream: http://h\n".encode("utf-16"))
    assert "not UTF-8" in _error(path)
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert "larger than 1 MiB" in _error(path)
