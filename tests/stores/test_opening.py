"""Which store an address opens, and what an operator is told of its place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from idemproxy.errors import ConfigError
from idemproxy.stores.opening import open_store
from idemproxy.stores.sqlite_place import warnings_about

ROOT = Path(__file__).parents[2]


async def test_an_address_names_its_backend_and_no_other_is_loaded() -> None:
    program = (
        "import sys; from idemproxy.stores.opening import backend; "
        "print(type(backend('sqlite:x.db', namespace='n', timeout_ms=9)).__name__, 'redis' in sys.modules)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "SqliteStore False\n"
    with pytest.raises(ConfigError, match="sqlite:PATH"):
        await open_store("mysql://host/x", namespace="n", timeout_ms=9)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:20 / /dev/shm rw - tmpfs shm rw
24 22 0:21 / /mnt/my\\040data rw - nfs4 server:/export rw
25 24 254:1 / /mnt/my\\040data/local rw - xfs /dev/vdb rw
"""


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("/var/lib/store.db", None),
        ("/dev/shm/store.db", "restart"),
        ("/dev/shmoo/store.db", None),
        ("/mnt/my data/store.db", "network"),
        ("/mnt/my data/local/store.db", None),
    ],
)
def test_an_operator_is_warned_of_a_place_that_does_not_keep(tmp_path: Path, file: str, word: str | None) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    warnings = warnings_about(file, mounts)
    assert len(warnings) == (word is not None)
    assert all(file in warning and str(word) in warning for warning in warnings)
    assert warnings_about(file, tmp_path / "absent") == ()
