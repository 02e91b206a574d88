"""The command line: what each command says, and its exit status."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

import idemproxy
from idemproxy.cli import main
from idemproxy.config.settings import Settings, TcpAddress
from idemproxy.errors import StartError

GOOD = """\
upstream: http://127.0.0.1:9000
store: redis://user:hunter2@db:6379/0
routes:
  - name: charges
    match: {path: /v1/charges}
"""


class Ran:
    """Stands where the runtime stands."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.reread: Callable[[], Settings] | None = None

    def run(self, settings: Settings, reread: Callable[[], Settings] | None) -> int:
        self.settings.append(settings)
        self.reread = reread
        return 0


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    ran = Ran()
    monkeypatch.setattr(idemproxy, "runtime", ran, raising=False)
    return ran


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return file


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    return said.err


# ------------------------------------------------------------------------------------------------------------------------ run


def test_run_takes_a_file(ran: Ran, file: Path) -> None:
    assert main(["run", "--config", str(file)]) == 0
    assert [rule.name for rule in ran.settings[0].rules] == ["charges"]


def test_run_can_read_the_file_again(ran: Ran, file: Path) -> None:
    main(["run", "--config", str(file)])
    file.write_text(GOOD.replace("charges", "orders"))
    assert ran.reread is not None
    assert [rule.name for rule in ran.reread().rules] == ["orders"]


def test_run_takes_an_upstream_and_the_rest_with_it(ran: Ran) -> None:
    options = ["--listen", "127.0.0.1:81", "--store", "sqlite:x.db", "--admin", "127.0.0.1:82"]
    assert main(["run", "--upstream", "http://127.0.0.1:9000", *options]) == 0
    (settings,) = ran.settings
    assert (settings.listen, settings.store) == (TcpAddress("127.0.0.1", 81), "sqlite:x.db")
    assert settings.admin == TcpAddress("127.0.0.1", 82)
    assert ran.reread is None


@pytest.mark.parametrize("option", ["--listen", "--store", "--admin"])
def test_run_with_a_file_takes_nothing_else(
    ran: Ran, file: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = usage_error(capsys, "run", "--config", str(file), option, "127.0.0.1:1")
    assert f"{option}: only with --upstream" in said
    assert ran.settings == []


def test_run_needs_a_file_or_an_upstream(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--config --upstream" in usage_error(capsys, "run")
    usage_error(capsys, "run", "--config", "a", "--upstream", "http://b:1")
    assert ran.settings == []


def test_run_tells_what_is_wrong_with_an_upstream(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--upstream", "127.0.0.1:9000"]) == 2
    assert "--upstream" in capsys.readouterr().err
    assert ran.settings == []


def test_a_start_that_fails_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Settings, __: object) -> int:
        raise StartError("port 8080 is in use")

    monkeypatch.setattr(idemproxy, "runtime", types.SimpleNamespace(run=fail), raising=False)
    assert main(["run", "--config", str(file)]) == 1
    assert capsys.readouterr().err == "idemproxy: port 8080 is in use\n"


def test_a_defect_is_told_in_a_line_without_what_it_quotes(
    monkeypatch: pytest.MonkeyPatch, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Settings, __: object) -> int:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(idemproxy, "runtime", types.SimpleNamespace(run=fail), raising=False)
    monkeypatch.delenv("IDEMPROXY_LOG", raising=False)
    assert main(["run", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "RuntimeError" in said
    assert "hunter2" not in said


# ---------------------------------------------------------------------------------------------------------------------- check


def test_check_says_what_a_good_file_does(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file)]) == 0
    said = capsys.readouterr().out
    assert "OK" in said
    for part in ("127.0.0.1:8080", "http://127.0.0.1:9000", "redis://db:6379/0", "charges"):
        assert part in said
    assert "hunter2" not in said


def test_check_says_which_rules_only_observe(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        "upstream: http://127.0.0.1:9\nroutes: [{name: a, match: {path: /a}, mode: observe}, {name: b, match: {path: /b}}]"
    )
    assert main(["check", str(file)]) == 0
    assert "rules: a (only observes), b\n" in capsys.readouterr().out


def test_check_says_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("upstream: 9\nlisten: nowhere\nrutes: []\n")
    assert main(["check", str(file)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for place in ("bad.yaml:1", "bad.yaml:2", "bad.yaml:3"):
        assert place in said.err


def test_check_tells_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "none.yaml")]) == 2
    assert main(["check", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_warnings_count_only_when_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "open.yaml"
    file.write_text(GOOD + "    on_store_failure: fail_open\n")
    assert main(["check", str(file)]) == 0
    assert "warning: " in capsys.readouterr().err
    assert main(["check", "--strict", str(file)]) == 1
    assert "fail_open" in capsys.readouterr().err


def test_a_file_without_warnings_is_good_when_strict(file: Path) -> None:
    assert main(["check", "--strict", str(file)]) == 0


# -------------------------------------------------------------------------------------------------------------- schema, usage


def test_schema_prints_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for command in ("run", "check", "schema", "demo", "records"):
        assert command in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code in (None, 0)
    assert capsys.readouterr().out.startswith("idemproxy ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["explain"],
        ["check"],
        ["run", "--conf", "x"],
        ["records"],
        ["records", "list"],
        ["records", "list", "--store", "sqlite:a", "--config", "b"],
        ["records", "list", "--store", "sqlite:a", "--state", "released"],
        ["records", "list", "--store", "sqlite:a", "--limit", "0"],
        ["records", "show", "--store", "sqlite:a"],
        ["records", "resolve", "--store", "sqlite:a", "aaaaaaaa"],
        ["records", "resolve", "--store", "sqlite:a", "aaaaaaaa", "--release", "--complete", "200"],
        ["records", "resolve", "--store", "sqlite:a", "aaaaaaaa", "--complete", "200", "--header", "nonsense"],
    ],
)
def test_wrong_usage_is_told_in_two_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "--help" in usage_error(capsys, *arguments)


def test_records_of_a_store_that_is_not_there_make_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "typo.db"
    assert main(["records", "list", "--store", f"sqlite:{store}"]) == 2
    assert "no such store" in capsys.readouterr().err
    assert not store.exists()


def test_records_of_a_store_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "list", "--store", "mysql://db/x"]) == 2
    assert "--store" in capsys.readouterr().err
