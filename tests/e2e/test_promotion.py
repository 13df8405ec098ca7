"""A PoC that is written all the time moves to PostgreSQL and back, and whoever moves it is killed again and again."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Addresses
from tests.support.postgres import PostgresServer
from tests.support.server import ROOT, Server, environment, free_port, trellis

FILLED = 3_000
# A process each; any call at all is a unit test's.
BEFORE_THE_SWITCH = ("copy leads", "compare")
IN_THE_SWITCH = 2
PAUSE_S = 0.05


class Writer:
    """Sends leads, one after the other, to whichever server there is; knows which ones were acknowledged."""

    def __init__(self, server: Server, key: str) -> None:
        self.server, self._key = server, key
        self.acknowledged: dict[str, str] = {}
        self.refusals: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._number = 0

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for(self, more: int) -> None:
        """Until so many more are acknowledged."""
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + 60
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"only {len(self.acknowledged)} of {wanted}: {self.refusals}"
            time.sleep(0.02)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._number += 1
            name = f"live-{self._number}"
            lead = {
                "external_id": name,
                "name": "Nova",
                "email": f"{name}@example.org",
                "message": "What does it cost?",
            }
            try:
                found = self.server.call(
                    "/v1/leads", self._key, json.dumps(lead).encode(), Content_Type="application/json"
                )
            except urllib.error.HTTPError as error:
                self.refusals.add(f"{error.code} {json.load(error)['type']}")
                time.sleep(PAUSE_S)
            except OSError:
                time.sleep(PAUSE_S)
            else:
                self.acknowledged[name] = found["lead"]["id"]
                time.sleep(PAUSE_S)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poc")


def folder(of: Path) -> Path:
    """The data folder of the new side: the old one's index belongs to the old server."""
    made = of / "new"
    made.mkdir()
    return made


@contextmanager
def old_server(home: Path, *arguments: str) -> Iterator[Server]:
    with Server(home, free_port(), *arguments) as server:
        server.wait_ready()
        yield server


def fill(path: Path) -> None:
    """So many leads that copying them takes a while."""
    with sqlite3.connect(path, timeout=30) as database:
        columns = [name for _, name, *_ in database.execute("PRAGMA table_info(leads)")]
        listed = ", ".join(columns)
        taken = ", ".join({"id": "? || number", "external_id": "'old-' || number"}.get(name, name) for name in columns)
        database.execute(
            "WITH RECURSIVE numbers (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < ?) "
            f"INSERT INTO leads ({listed}) SELECT {taken} FROM numbers, (SELECT * FROM leads LIMIT 1)",
            (FILLED, "lead_old"),
        )


def start_move(home: Path, target: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.support.promotion_child", str(home), str(target), *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment(home, 1), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def killed_move(home: Path, target: Path, chance: random.Random, first: str, *arguments: str) -> None:
    """Ended by SIGKILL a moment after it said that it begins with this."""
    process = start_move(home, target, *arguments)
    assert process.stdout is not None
    while (line := process.stdout.readline()) and not line.startswith(first):
        pass
    time.sleep(chance.uniform(0, 0.3))
    process.kill()
    process.communicate(timeout=20)


def whole_move(home: Path, target: Path, *arguments: str) -> dict[str, Any]:
    printed, errors = start_move(home, target, *arguments).communicate(timeout=300)
    assert printed.strip().endswith("}"), f"{printed[-500:]} {errors[-3000:]}"
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found


@pytest.mark.timeout(900)
def test_no_acknowledged_write_is_lost_or_doubled_on_the_way_up_and_back(
    home: Path, tmp_path: Path, postgres_server: PostgresServer, migrated_postgres: Addresses
) -> None:
    target = tmp_path / "small.env"
    url = {"TRELLIS_DATABASE_URL": migrated_postgres.app_url, "TRELLIS_DATABASE_OWNER_URL": migrated_postgres.owner_url}
    target.write_text("".join(f"{name}={value}\n" for name, value in {"TRELLIS_PHASE": "small", **url}.items()))
    chance = random.Random(11)
    with old_server(home, "--sample") as old:
        fill(home / "trellis.db")
        with Writer(old, (home / "local.key").read_text().strip()) as writer:
            writer.wait_for(10)
            for first in BEFORE_THE_SWITCH:
                killed_move(home, target, chance, first)
                writer.wait_for(5)
            for _ in range(IN_THE_SWITCH):
                killed_move(home, target, chance, "catch up")
            up = whole_move(home, target)
            with Server(
                folder(tmp_path), free_port(), TRELLIS_PHASE="small", TRELLIS_EXECUTOR_ID="new-1", **url
            ) as new:
                new.wait_ready()
                written = len(writer.acknowledged)
                check(postgres_leads(postgres_server, migrated_postgres), writer)
                assert writer.refusals == {"503 urn:trellis:problem:moved"}
                writer.server = new
                writer.wait_for(40)
                assert old.terminate() == 0
                killed_move(home, target, chance, "catch up", "back")
                whole_move(home, target, "back")
                time.sleep(0.2)
                new.terminate()
            with old_server(home) as again:
                writer.server = again
                writer.wait_for(10)
    assert up["rows"] > FILLED
    assert len(writer.acknowledged) >= written + 50
    assert writer.refusals == {"503 urn:trellis:problem:moved"}
    check(sqlite_leads(home / "trellis.db"), writer)
    check_nothing_twice(home / "trellis.db")
    assert "the chain holds" in trellis(home, free_port(), "audit", "verify").stdout


def check(found: list[tuple[str, str]], writer: Writer) -> None:
    """Every acknowledged lead is there, once; `found` are external ids and ids."""
    known = dict(found)
    assert len(known) == len(found)
    assert {name: known.get(name) for name in writer.acknowledged} == writer.acknowledged
    assert sum(name.startswith("old-") for name in known) == FILLED


def check_nothing_twice(path: Path) -> None:
    """Jobs that ran when a side was closed went on at the other one: no lead was decided twice, or written to twice."""
    ours = "SELECT id FROM leads WHERE external_id LIKE 'live-%'"
    with sqlite3.connect(path) as database:
        for counted in (
            f"SELECT subject_id FROM decisions WHERE subject_id IN ({ours})",
            "SELECT recipient FROM outbox WHERE recipient LIKE 'live-%'",
        ):
            twice = database.execute(f"{counted} GROUP BY 1 HAVING count(*) > 1").fetchall()
            assert twice == []


def sqlite_leads(path: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(path) as database:
        return database.execute("SELECT external_id, id FROM leads").fetchall()


def postgres_leads(server: PostgresServer, found: Addresses) -> list[tuple[str, str]]:
    with server.connect(found.name) as connection:
        rows: list[tuple[str, str]] = connection.execute("SELECT external_id, id FROM leads").fetchall()
        return rows
