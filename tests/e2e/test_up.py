"""`trellis up` and `trellis down` as a user and a script meet them."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ROOT, environment, free_port, trellis


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def up(tmp_path: Path, port: int) -> Iterator[str]:
    """A detached service; what `up` printed."""
    printed = trellis(tmp_path / "home", port, "up", "--detach").stdout
    yield printed
    trellis(tmp_path / "home", port, "down")


def test_up_prints_where_things_are_and_what_was_decided(up: str, tmp_path: Path, port: int) -> None:
    for part in (
        "/console",
        "/docs",
        "/metrics",
        "offline",
        "3 s / none promised",
        "100 ms",
        "50 USD",
        "First decided lead",
    ):
        assert part in up
    counts = api("/v1/leads/counts", tmp_path / "home", port)
    assert counts["total"] >= 40
    assert counts["by_status"]["new"] == 0
    key_file = tmp_path / "home" / "local.key"
    assert key_file.stat().st_mode & 0o077 == 0


def test_a_second_up_says_that_it_runs_already(up: str, tmp_path: Path, port: int) -> None:
    again = trellis(tmp_path / "home", port, "up", "--detach", check=False)
    assert again.returncode == 1
    assert "runs here already" in again.stderr
    assert api("/readyz", tmp_path / "home", port)["ready"]


def test_up_after_down_keeps_what_was_there(tmp_path: Path, port: int) -> None:
    home = tmp_path / "home"
    trellis(home, port, "up", "--detach")
    before = api("/v1/leads/counts", home, port)
    assert "Ended process" in trellis(home, port, "down").stdout
    assert "Nothing to end" in trellis(home, port, "down").stdout
    trellis(home, port, "up", "--detach")
    assert api("/v1/leads/counts", home, port) == before
    trellis(home, port, "down")


def test_ctrl_c_ends_the_server_cleanly(tmp_path: Path, port: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "up"],
        cwd=ROOT,
        env=environment(tmp_path, port),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C ends it" in line:
            break
    server = int((tmp_path / "trellis.pid").read_text())
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)
    assert not (tmp_path / "trellis.pid").exists()


def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(tmp_path, taken.getsockname()[1], "is taken: set TRELLIS_PORT")


def test_a_data_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, port: int) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(tmp_path / "file" / "home", port, "cannot be written")


def test_an_unknown_setting_is_one_sentence(tmp_path: Path, port: int) -> None:
    refused(
        tmp_path, port, "TRELLIS_PHASES is not a setting of Trellis: did you mean TRELLIS_PHASE?", TRELLIS_PHASES="poc"
    )


def test_a_newer_schema_is_one_sentence(tmp_path: Path, port: int) -> None:
    trellis(tmp_path, port, "migrate")
    with sqlite3.connect(tmp_path / "trellis.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        # The newer one said that no older program runs on it.
        database.execute("DELETE FROM schema_programs")
    refused(tmp_path, port, "written by a newer one")


def test_an_old_schema_is_one_sentence_where_nothing_migrates(tmp_path: Path, port: int) -> None:
    trellis(tmp_path, port, "migrate")
    with sqlite3.connect(tmp_path / "trellis.db") as database:
        database.execute("DELETE FROM alembic_version")
    found = trellis(tmp_path, port, "serve", check=False)
    assert found.returncode == 1
    assert "run `trellis migrate`" in found.stderr


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path, port: int) -> None:
    (tmp_path / "trellis.db").write_text("this is not a database, it is a text\n" * 100)
    refused(tmp_path, port, "is not a database")


def refused(home: Path, port: int, sentence: str, **settings: str) -> None:
    found = trellis(home, port, "up", "--detach", check=False, **settings)
    assert found.returncode == 1
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def api(path: str, home: Path, port: int) -> dict:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    request.add_header("Authorization", f"Bearer {(home / 'local.key').read_text().strip()}")
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return json.load(response)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
