"""`trellis treatments` beside a running server, which holds the worker, and after it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import TrellisError
from tests.support.server import ROOT, Server, environment, free_port

CALL = {"name": "call", "title": "A call", "cost_usd": 1, "base_chance": 0.2, "capacity_per_day": 3}
CATALOGUE = {"treatments": [CALL]}
HEADER = "external_id,segment,worth_usd,event_at,event_kind\n"


class Terminal:
    """One data folder, and commands upon it, each as the process that it would be but without the start of one."""

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()

    def __call__(self, *arguments: str) -> str:
        """What it printed. Raises what it raised."""
        found = CliRunner().invoke(cli, ["treatments", *arguments], env=self.environment())
        if found.exception is not None:
            raise found.exception
        return found.stdout

    def environment(self) -> dict[str, str]:
        return environment(self.home, self.port, TRELLIS_LOG_LEVEL="ERROR")

    def newest_run(self) -> str:
        return next(word for word in self("runs").split() if word.startswith("run_"))


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    home = tmp_path_factory.mktemp("commands")
    made = Terminal(home)
    (home / "catalogue.json").write_text(json.dumps(CATALOGUE))
    rows = [f"c{n},{'gold' if n < 5 else 'tin'},{100 + n},2026-01-0{n % 9 + 1}T10:00:00Z,visit\n" for n in range(40)]
    (home / "customers.csv").write_text(HEADER + "".join(rows))
    with Server(home, made.port, "--sample") as server:
        server.wait_ready()
        yield made
        server.terminate()
    told = made("run", "--segment", "gold")
    assert "is queued" in told  # no server, no worker: it waits for one


def test_data_go_in_a_run_goes_to_its_end_and_results_come_out(terminal: Terminal) -> None:
    assert "is in force now: call" in terminal("catalogue", str(terminal.home / "catalogue.json"))
    file = str(terminal.home / "customers.csv")
    assert "40 customers new or changed, 0 unchanged" in terminal("import", file)
    assert "0 customers new or changed, 40 unchanged" in terminal("import", file)
    told = terminal("run", "--segment", "gold", "--seed", "5", "--wait")
    assert "5 of 5, 0 set aside" in told
    run_id = terminal.newest_run()
    assert run_id in told
    assert terminal("export", run_id, "--to", str(terminal.home / "out.csv")).startswith("5 results are in ")
    terminal("export", run_id, "--to", str(terminal.home / "out.parquet"))
    lines = (terminal.home / "out.csv").read_text().splitlines()
    table = pyarrow.parquet.read_table(terminal.home / "out.parquet")
    assert {line.partition(",")[0] for line in lines[1:]} == set(table.column("external_id").to_pylist())
    assert len(lines) == 6
    story = json.loads(terminal("audit", "c3", "--json"))
    assert [decision["run"]["id"] for decision in story["decisions"]] == [run_id]
    told = terminal("audit", "c3")
    for part in ("Decision", "Features", "Fingerprint", run_id):
        assert part in told


def test_what_is_wrong_is_one_sentence(terminal: Terminal) -> None:
    home = terminal.home
    (home / "wrong.csv").write_text(HEADER + "c1,gold,100,,\nc2,gold,much,,\n")
    (home / "ghost.csv").write_text("external_id\nghost\n")
    for arguments, said in (
        (("import", str(home / "wrong.csv")), "Line 3: 'worth_usd'"),
        (("import", str(home / "customers.xls")), "no kind that is read"),
        (("run", "--file", str(home / "ghost.csv")), "'ghost'"),
        (("run", "--window", "9"), "HH:MM-HH:MM"),
        (("resume", "run_none", "--window", "from nine to five"), "at most 11 characters"),
        (("show", "run_none"), "no run 'run_none'"),
        (("export", "run_none", "--to", str(home / "out.xls")), ".parquet"),
        (("audit", "nobody"), "nobody"),
    ):
        with pytest.raises(TrellisError) as refused:
            terminal(*arguments)
        assert said in refused.value.detail


def test_ctrl_c_leaves_the_run_going_and_says_so(terminal: Terminal) -> None:
    command = [sys.executable, "-m", "app.cli", "treatments", "run", "--window", closed(), "--wait"]
    settings = environment(terminal.home, terminal.port)
    with subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, preexec_fn=heed
    ) as watching:
        assert watching.stdout is not None
        assert "is queued" in watching.stdout.readline()
        assert "UTC only. Goes on at" in watching.stdout.readline()
        os.kill(watching.pid, signal.SIGINT)
        said = watching.communicate(timeout=60)[0]
        assert watching.returncode == 130
    assert "The run goes on." in said
    run_id = terminal.newest_run()
    assert "cancelled" in terminal("cancel", run_id)
    assert "queued" in terminal("resume", run_id, "--window", "")
    assert "done" in terminal("watch", run_id)


def heed() -> None:
    """In the child: Ctrl-C is heard, also where this process was started without a terminal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def closed() -> str:
    """A window of a minute, twelve hours from now."""
    away = datetime.now(UTC) + timedelta(hours=12)
    return f"{away:%H:%M}-{away + timedelta(minutes=1):%H:%M}"
