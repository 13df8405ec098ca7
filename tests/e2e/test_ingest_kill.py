"""The process is killed twice in the middle of 1,000 documents: it ends complete, and nothing is there twice."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from app.clock import system_clock
from app.container import migrate_database
from app.governance.keys import create_key, create_tenant
from app.knowledge.base import Namespace
from app.knowledge.edge import EdgeVectors
from app.principal import Role, Tier
from app.settings import load_settings
from app.storage.db import Database
from tests.support.server import Server, free_port

DOCUMENTS, SENDERS = 1_000, 4
TENANT = "kill"
BASE = "/v1/bots/docs/documents"
SETTINGS = {"TRELLIS_LOG_LEVEL": "WARNING"}


def text(number: int) -> str:
    return (
        f"## Room {number}\n\nRoom {number} is kept at {number % 40} degrees by machine {number * 7}.\n\n"
        f"## Keeper\n\nThe keeper of room {number} is called Person{number}, who comes on day {number % 28}.\n\n"
        f"{'The door is closed after every visit, and the visit is written down in the book. ' * 3}\n"
    )


def body(number: int) -> str:
    """Every fifth document is a file that has to be read first: its upload is there until it is ready."""
    about = {"slug": f"room-{number}", "title": f"Room {number}"}
    if number % 5:
        return json.dumps(about | {"text": text(number)})
    paragraphs = [part.strip() for part in text(number).split("\n\n")]
    page = "".join(f"<h2>{part[3:]}</h2>" if part.startswith("## ") else f"<p>{part}</p>" for part in paragraphs)
    return json.dumps(about | {"text": f"<html><body>{page}</body></html>", "media_type": "text/html"})


def send(port: int, key: str, numbers: Sequence[int]) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for number in numbers:
        connection.request("POST", BASE, body(number), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 202
    connection.close()


def send_all(port: int, key: str) -> None:
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(lambda first: send(port, key, range(first, DOCUMENTS, SENDERS)), range(SENDERS)))


def ready(home: Path) -> int:
    with sqlite3.connect(home / "trellis.db", timeout=30) as database:
        [(count,)] = database.execute("SELECT count(*) FROM documents WHERE status = 'ready'").fetchall()
    return int(count)


def wait_until_ready(home: Path, server: Server, least: int) -> None:
    deadline = time.monotonic() + 200
    while (count := ready(home)) < least:
        assert time.monotonic() < deadline, f"only {count} documents are ready"
        assert server.process.poll() is None, "the server ended"
        time.sleep(0.05)


async def prepared(home: Path) -> str:
    """A migrated data folder with a tenant; the secret of an admin's key of it."""
    settings = load_settings({}, home=home)
    await migrate_database(settings)
    db = Database(settings.sqlalchemy_url)
    async with db.operator_transaction() as session:
        await create_tenant(session, TENANT, "Kill", system_clock())
        key = await create_key(session, TENANT, Role.ADMIN, Tier.PRO, "kill", system_clock())
    await db.close()
    return key.secret


@pytest.mark.timeout(400)
def test_1000_documents_are_complete_after_two_kills(tmp_path: Path) -> None:
    port = free_port()
    key = asyncio.run(prepared(tmp_path))
    with Server(tmp_path, port, **SETTINGS) as server:
        server.wait_ready()
        send_all(port, key)
        wait_until_ready(tmp_path, server, 150)
        server.kill()
    with Server(tmp_path, port, **SETTINGS) as server:
        server.wait_ready()
        wait_until_ready(tmp_path, server, 500)
        server.kill()
    assert ready(tmp_path) < DOCUMENTS
    with Server(tmp_path, port, **SETTINGS) as server:
        server.wait_ready()
        wait_until_ready(tmp_path, server, DOCUMENTS)
        check_search(server, key)
        assert server.terminate() == 0
    check_rows(tmp_path)
    check_vectors(tmp_path)


def check_search(server: Server, key: str) -> None:
    """Each document is found, as one passage and not as two."""
    for number in range(0, DOCUMENTS, 97):
        query = f"/v1/bots/docs/search?limit=20&q=keeper+of+room+{number}+called+Person{number}"
        passages = server.call(query, key)["items"]
        assert any(f"Person{number}," in passage["text"] for passage in passages)
        assert len({passage["chunk_id"] for passage in passages}) == len(passages)


def check_rows(home: Path) -> None:
    with sqlite3.connect(home / "trellis.db") as database:
        documents = database.execute("SELECT status, count(*) FROM documents GROUP BY 1").fetchall()
        chunks = database.execute("SELECT status, superseded, count(*) FROM chunks GROUP BY 1, 2").fetchall()
        twice = database.execute("SELECT document_id, text FROM chunks GROUP BY 1, 2 HAVING count(*) > 1").fetchall()
        fits = database.execute(
            "SELECT count(*) FROM documents d WHERE d.chunk_count = "
            "(SELECT count(*) FROM chunks c WHERE c.document_id = d.id)"
        ).fetchone()
        jobs = database.execute(
            "SELECT status, count(*) FROM workflow_status WHERE name = 'knowledge.ingest' GROUP BY 1"
        ).fetchall()
        uploads = database.execute("SELECT count(*) FROM document_uploads").fetchone()
    assert documents == [("ready", DOCUMENTS)]
    assert uploads == (0,), "a file that was read is not kept"
    assert [(status, superseded) for status, superseded, _ in chunks] == [("ready", 0)]
    assert twice == []
    assert fits == (DOCUMENTS,)
    assert jobs == [("SUCCESS", DOCUMENTS)]


def check_vectors(home: Path) -> None:
    """Each chunk of the table has its vector, and there is no other."""
    with sqlite3.connect(home / "trellis.db") as database:
        rows = set(database.execute("SELECT document_id, id FROM chunks").fetchall())
    stored, count = asyncio.run(vectors(home))
    assert stored == rows
    assert count == len(rows)


async def vectors(home: Path) -> tuple[set[tuple[str, str]], int]:
    """Document and chunk of every vector, and how many vectors there are."""
    store = EdgeVectors.open(home / "vectors")
    namespace = Namespace(TENANT, "docs")
    found = await store.chunk_ids(namespace)
    count = await store.count(namespace)
    await store.close()
    return {(document_id, chunk_id) for document_id, ids in found.items() for chunk_id in ids}, count
