"""Looks up the locked packages in the registry's list of known vulnerabilities. Fails where one is found. A registry that cannot
be reached, or that has no such list, fails nothing: it is said."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent.parent / "tests" / "requirements.txt"
PATIENCE = 180
"""Seconds for the whole of it."""
UNREACHABLE = re.compile(
    r"connection|timed out|timeout|max retries|resol|unreachable|proxy|ssl|service ?unavailable|50[234]", re.IGNORECASE
)


def main() -> int:
    """The exit status: 1 when a package is known to be vulnerable, or when the question itself was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            str(LOCK),
            "--no-deps",
            "--disable-pip",
            "--timeout",
            "15",
        ]
        shaped = ["--progress-spinner", "off", "--format", "json", "--output", str(report)]
        try:
            done = subprocess.run([*asked, *shaped], capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            return _say("not done: the registry gave no answer in time", 0)
        if not report.exists() or not report.stat().st_size:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            if UNREACHABLE.search(done.stderr):
                return _say("not done: the registry could not be reached", 0)
            return _say(f"failed: {last}", 1)
        return _judge(json.loads(report.read_text())["dependencies"])


def _judge(packages: list[dict[str, object]]) -> int:
    found = [package for package in packages if package.get("vulns")]
    skipped = sum("skip_reason" in package for package in packages)
    for package in found:
        vulnerabilities = package["vulns"]
        assert isinstance(vulnerabilities, list)
        for each in vulnerabilities:
            fixed = ", ".join(each.get("fix_versions") or ()) or "no version yet"
            _say(f"VULNERABLE: {package['name']} {package['version']}: {each['id']}, fixed in {fixed}", 1)
    if found:
        return 1
    checked = len(packages) - skipped
    if not checked:
        return _say(f"not done: the registry has no list of vulnerabilities for the {skipped} packages", 0)
    return _say(
        f"{checked} packages checked, none known to be vulnerable"
        + (f"; {skipped} could not be checked" if skipped else ""),
        0,
    )


def _say(text: str, status: int) -> int:
    sys.stdout.write(f"pip-audit: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
