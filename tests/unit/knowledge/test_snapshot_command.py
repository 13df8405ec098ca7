"""`trellis knowledge snapshot` on the vector server's fake."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import ConfigError
from tests.support.fakes.qdrant import KEY


@pytest.fixture
def server() -> Iterator[str]:
    """The address of the fake in a process of its own: a command has an event loop to itself."""
    words = [sys.executable, "-m", "tests.support.fakes.qdrant_process"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def test_snapshots_are_made_shown_kept_and_put_back(server: str, tmp_path: Path) -> None:
    environment = {"TRELLIS_VECTORS_URL": server, "TRELLIS_VECTORS_KEY": KEY, "COLUMNS": "160"}

    def command(*words: str) -> str:
        done = CliRunner().invoke(cli, ["knowledge", "snapshot", *words], env=environment)
        assert done.exit_code == 0, done.output
        return done.output

    assert "0 snapshots" in command("create", "--folder", str(tmp_path), "--keep", "3")
    (made,) = tmp_path.iterdir()
    assert made.name in command("list", "--folder", str(tmp_path))
    assert "every hour" in command("restore", str(made), "--yes")


def test_without_a_server_the_command_says_where_the_index_is(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["knowledge", "snapshot", "create", "--folder", str(tmp_path)], env={})
    assert isinstance(done.exception, ConfigError)
    assert "data folder" in done.exception.detail
