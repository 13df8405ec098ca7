"""Commands on the data folder of a server that is deciding leads: both go on, and the kill switch is seen."""

import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.server import Server, free_port, trellis

LEADS, IMPORTED, BATCHES = 40, 30, 2
SEEN_S = 10.0
HELD_BACK_S = 1.0


def lines(name: str, number: int) -> str:
    return "\n".join(
        json.dumps(
            {
                "external_id": f"{name}-{n}",
                "name": f"Person {n}",
                "email": f"{name}{n}@example.org",
                "message": "What does the Operate plan cost for 40 sensors on annual billing?",
            }
        )
        for n in range(number)
    )


def wait_until_none_is_new(server: Server, key: str) -> None:
    deadline = time.monotonic() + 100
    while server.call("/v1/leads/counts", key)["by_status"]["new"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.timeout(240)
def test_commands_and_server_share_the_database(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "leads.jsonl"
    file.write_text(lines("file", IMPORTED))
    with Server(tmp_path, port, "--sample", TRELLIS_LOG_LEVEL="WARNING") as server:
        server.wait_ready()
        key = (tmp_path / "local.key").read_text().strip()
        for number in range(BATCHES):
            body = lines(f"batch{number}", LEADS).encode()
            assert server.call("/v1/leads/batch", key, body, Content_Type="application/x-ndjson")["accepted"] == LEADS
        commands = (
            ("keys", "create", "--label", "beside", "--role", "viewer"),
            ("leads", "import", str(file)),
            ("audit", "verify"),
        )
        with ThreadPoolExecutor() as pool:
            made, imported, verified = pool.map(lambda command: trellis(tmp_path, port, *command).stdout, commands)
        assert f"{IMPORTED} stored" in imported
        assert "the chain holds" in verified
        assert server.call("/v1/leads/counts", made.split()[1])["total"] >= LEADS * BATCHES
        wait_until_none_is_new(server, key)
        stopped_by_the_switch(server, key)
        assert server.terminate() == 0
    assert "locked" not in (tmp_path / "server.log").read_text()
    check_rows(tmp_path)
    assert "the chain holds" in trellis(tmp_path, port, "audit", "verify").stdout


def stopped_by_the_switch(server: Server, key: str) -> None:
    """The switch is seen without a restart, and holds a new lead back."""
    trellis(server.home, server.port, "flags", "set", "kill.leads", "true")
    deadline = time.monotonic() + SEEN_S
    while server.call("/v1/status", key)["stopped"] != ["leads"]:
        assert time.monotonic() < deadline, "the server has not seen the kill switch"
        time.sleep(0.02)
    body = lines("late", 1).encode()
    [late] = server.call("/v1/leads/batch", key, body, Content_Type="application/x-ndjson")["lead_ids"]
    time.sleep(HELD_BACK_S)
    assert server.call(f"/v1/leads/{late}", key)["decisions"] == []


def check_rows(home: Path) -> None:
    with sqlite3.connect(home / "trellis.db") as database:
        taken_in = "SELECT count(*) FROM leads WHERE external_id LIKE 'file-%' OR external_id LIKE 'batch%'"
        assert database.execute(taken_in).fetchone() == (LEADS * BATCHES + IMPORTED,)
        twice = "SELECT subject_id FROM decisions WHERE trigger_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1"
        assert database.execute(twice).fetchall() == []
        states = database.execute("SELECT DISTINCT state FROM decisions").fetchall()
        assert states == [("done",)]
