"""The process is killed in the middle of its work, three times: nothing is lost, nothing happens twice."""

import json
import random
import sqlite3
import time
from pathlib import Path

from tests.support.server import Server, free_port, trellis

LEADS = 200
MESSAGES = (
    "What does the Operate plan cost for 40 sensors on annual billing?",
    "We want to buy for two sites. Can we have a meeting next week?",
    "Interesting, but our budget is frozen until next quarter. Please write to me then.",
    "Is there a free trial, and what happens to the tags afterwards?",
)


def batch() -> bytes:
    leads = (
        {
            "external_id": f"kill-{n}",
            "name": f"Person {n}",
            "email": f"person{n}@example.org",
            "company": f"Company {n}",
            "message": MESSAGES[n % len(MESSAGES)],
        }
        for n in range(LEADS)
    )
    return "\n".join(map(json.dumps, leads)).encode()


def waiting(server: Server, key: str) -> int:
    return int(server.call("/v1/leads/counts", key)["by_status"]["new"])


def wait_until_left(server: Server, key: str, most: int) -> None:
    """Until at most that many leads wait for their decision."""
    deadline = time.monotonic() + 150
    while (left := waiting(server, key)) > most:
        assert time.monotonic() < deadline, f"{left} leads still wait"
        time.sleep(0.05)


def test_200_leads_are_decided_once_and_each_mail_is_sent_once(tmp_path: Path) -> None:
    port = free_port()
    key = prepared(tmp_path, port)
    random_s = random.Random(7)
    with Server(tmp_path, port) as server:
        server.wait_ready()
        report = server.call("/v1/leads/batch", key, batch(), Content_Type="application/x-ndjson")
        assert report["accepted"] == LEADS
        wait_until_left(server, key, LEADS - 10)
        server.kill()
    for left in (140, 80):
        with Server(tmp_path, port) as server:
            server.wait_ready()
            wait_until_left(server, key, left)
            time.sleep(random_s.uniform(0, 0.2))
            server.kill()
    with Server(tmp_path, port) as server:
        server.wait_ready()
        wait_until_left(server, key, 0)
        assert server.terminate() == 0
    check_rows(tmp_path / "trellis.db")
    assert "the chain holds" in trellis(tmp_path, port, "audit", "verify").stdout


def prepared(home: Path, port: int) -> str:
    """A data folder with the sample's knowledge and a tenant's key, its server stopped."""
    with Server(home, port, "--sample") as server:
        server.wait_ready()
        key = (home / "local.key").read_text().strip()
        wait_until_left(server, key, 0)
        server.terminate()
    return key


def check_rows(path: Path) -> None:
    with sqlite3.connect(path) as database:
        ours = "subject_id IN (SELECT id FROM leads WHERE external_id LIKE 'kill-%')"
        per_lead = database.execute(f"SELECT subject_id, count(*) FROM decisions WHERE {ours} GROUP BY 1").fetchall()
        states = database.execute(f"SELECT state, count(*) FROM decisions WHERE {ours} GROUP BY 1").fetchall()
        mails = database.execute(
            "SELECT recipient, count(*) FROM outbox WHERE recipient LIKE 'person%' GROUP BY 1"
        ).fetchall()
        told = database.execute(
            "SELECT lead_id, count(*) FROM lead_messages WHERE direction = 'outbound' AND lead_id IN "
            "(SELECT id FROM leads WHERE external_id LIKE 'kill-%') GROUP BY 1"
        ).fetchall()
        effects = database.execute("SELECT state, count(*) FROM effects GROUP BY 1").fetchall()
        contacts = database.execute(
            "SELECT email, count(*) FROM crm_contacts GROUP BY 1 HAVING count(*) > 1"
        ).fetchall()
    assert len(per_lead) == LEADS
    assert {count for _, count in per_lead} == {1}
    assert dict(states) == {"done": LEADS}
    assert {count for _, count in mails} == {1}
    assert len(mails) == len(told) > LEADS / 2
    assert {count for _, count in told} == {1}
    assert dict(effects).keys() == {"done"}
    assert contacts == []
