"""Production refuses to start on what only development may use: one sentence, and nothing is opened."""

import sys
from pathlib import Path

import pytest

from app.cli import main
from tests.support.server import free_port, trellis

SECRET = "0123456789abcdef0123456789abcdef"
REFUSED = {
    "the default secret": ({}, "TRELLIS_SESSION_SECRET is the default"),
    "a short secret": ({"TRELLIS_SESSION_SECRET": "short"}, "shorter than 32"),
    "no authentication": ({"TRELLIS_SESSION_SECRET": SECRET, "TRELLIS_AUTH": "false"}, "TRELLIS_AUTH is off"),
    "no database": ({"TRELLIS_SESSION_SECRET": SECRET, "TRELLIS_PHASE": "small"}, "TRELLIS_DATABASE_URL is not set"),
}


@pytest.mark.parametrize("command", ["serve", "worker", "up", "migrate"])
@pytest.mark.parametrize("name", REFUSED)
def test_no_command_runs_in_production_without(
    tmp_path: Path, name: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, says = REFUSED[name]
    home = tmp_path / "home"
    for variable, value in {"TRELLIS_ENVIRONMENT": "production", "TRELLIS_HOME": str(home), **settings}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "argv", ["trellis", command])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr().err
    assert ended.value.code == 1
    assert says in printed
    assert SECRET not in printed
    assert len(printed.strip().splitlines()) == 1
    assert not home.exists()


def test_the_process_itself_ends_with_one_sentence(tmp_path: Path) -> None:
    found = trellis(tmp_path, free_port(), "serve", check=False, TRELLIS_ENVIRONMENT="production")
    assert found.returncode == 1
    assert found.stderr.startswith("error: TRELLIS_SESSION_SECRET")
    assert len(found.stderr.strip().splitlines()) == 1


def test_production_on_one_instance_starts_with_a_secret(tmp_path: Path) -> None:
    wanted = {"TRELLIS_ENVIRONMENT": "production", "TRELLIS_SESSION_SECRET": SECRET}
    assert "has schema" in trellis(tmp_path, free_port(), "migrate", **wanted).stdout
