"""What the storage room costs on PostgreSQL: a key, an idempotency key and one insert over HTTP; a read on a replica.

Each beside plain asyncpg that sends the same statements on connections of its own. One process holds both, so its CPU
time is theirs alone; the servers' is not counted. Run with `make bench ONLY=test_storage`.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import event, select
from sqlalchemy.engine import make_url

from app.cache.connection import connect
from app.cache.marks import RedisMarks
from app.clock import system_clock
from app.governance.audit import AuditHead
from app.storage.db import Database
from app.storage.replicas import ReadAt
from tests.perf.figures import record
from tests.perf.test_http import production_logs  # noqa: F401 - a fixture for every test here
from tests.support.databases import Addresses
from tests.support.http_app import Container, build, key_for
from tests.support.postgres import PostgresServer, Replica
from tests.support.redis import RedisServer

BODY = b'{"name": "x"}'
CALLS = 300
ROUNDS = 7
Work = Callable[[int], Awaitable[object]]


async def measured(works: dict[str, Work]) -> dict[str, tuple[float, float]]:
    """Milliseconds of CPU and of the clock for a call: the median of rounds that take turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(ROUNDS + 1):
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            for call in range(CALLS):
                await work(number * CALLS + call)
            spent = ((time.process_time() - cpu) / CALLS * 1e3, (time.perf_counter() - wall) / CALLS * 1e3)
            # The first round fills the caches of statements.
            taken[name] += [spent] if number else []
    return {name: tuple(np.median(np.array(rounds), axis=0)) for name, rounds in taken.items()}


def tell(name: str, found: dict[str, tuple[float, float]]) -> None:
    (cpu, wall), (bare_cpu, bare_wall) = found["ours"], found["asyncpg"]
    record(
        name,
        cpu_ms=cpu,
        wall_ms=wall,
        asyncpg_cpu_ms=bare_cpu,
        asyncpg_wall_ms=bare_wall,
        cpu_ratio=cpu / bare_cpu,
        wall_ratio=wall / bare_wall,
    )
    # Of ours is the web framework, the checks and the ORM; a driver alone cannot cost more than they do with it.
    assert bare_cpu < cpu


@pytest.fixture(scope="module")
def standby(postgres_server: PostgresServer) -> Iterator[Replica]:
    with postgres_server.replica() as standby:
        yield standby


@pytest.fixture
async def bare(migrated_postgres: Addresses) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(plain(migrated_postgres.app_url))
    yield connection
    await connection.close()


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


async def as_asyncpg(connection: asyncpg.Connection, heard: list[tuple[str, tuple[Any, ...]]], call: int) -> None:
    """The same statements with values of their own, in one transaction with its tenant."""
    async with connection.transaction():
        await connection.execute("SELECT set_config('trellis.tenant', 'acme', true)")
        for statement, values in heard:
            if statement.startswith("INSERT"):
                values = tuple(f"{value[:-8]}{call:08d}" if is_key(value) else value for value in values)
            await connection.fetch(statement, *values)


async def post(app: FastAPI, secret: str, once: str) -> int:
    """The status of one POST, past any client."""
    headers = {"host": "localhost", "authorization": f"Bearer {secret}", "content-type": "application/json"}
    headers |= {"content-length": str(len(BODY)), "idempotency-key": once}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/items",
        "raw_path": b"/v1/items",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.1", 5000),
        "server": ("localhost", 80),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return statuses[0]


def is_key(value: object) -> bool:
    return isinstance(value, str) and (value.startswith(("fx_", "idem_", "once_")) or value.endswith("bench"))


async def test_a_key_an_idempotency_key_and_one_insert(migrated_postgres: Addresses, bare: asyncpg.Connection) -> None:
    db = Database(migrated_postgres.app_url)
    secret = await key_for(db, system_clock, "acme")
    heard: list[tuple[str, tuple[Any, ...]]] = []

    def hear(_connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, _many: bool) -> None:
        heard.append((statement, tuple(values)))

    app = build(Container(db, system_clock))

    async def ours(call: int) -> None:
        assert await post(app, secret, f"{call:08d}-bench") == 201

    await ours(10_000_000)
    event.listen(db.writer.sync_engine, "before_cursor_execute", hear)
    await ours(10_000_001)
    event.remove(db.writer.sync_engine, "before_cursor_execute", hear)
    found = await measured({"ours": ours, "asyncpg": lambda call: as_asyncpg(bare, heard, call)})
    await db.close()
    tell(f"postgresql, key + idempotency + insert over HTTP ({len(heard)} statements)", found)


async def test_a_read_on_a_replica(migrated_postgres: Addresses, standby: Replica, redis_server: RedisServer) -> None:
    link = connect(redis_server.url)
    went: list[ReadAt] = []
    reader = standby.url(migrated_postgres.name, "trellis_api")
    db = Database(migrated_postgres.app_url, reader_url=reader, marks=RedisMarks(link), told=went.append)
    writer = Database(migrated_postgres.app_url)
    async with db.transaction("acme") as session:
        session.add(AuditHead(tenant_id="acme", seq=1, hash=""))
    standby.catch_up()
    connection = await asyncpg.connect(plain(reader))
    query = "SELECT seq FROM audit_heads WHERE tenant_id = $1"

    async def read(database: Database) -> None:
        async with database.reading("acme") as session:
            assert await session.scalar(select(AuditHead.seq).where(AuditHead.tenant_id == "acme")) == 1

    works = {
        "ours": lambda _call: read(db),
        "writer": lambda _call: read(writer),
        "asyncpg": lambda call: as_asyncpg(connection, [(query, ("acme",))], call),
    }
    found = await measured(works)
    assert set(went) == {ReadAt.REPLICA}
    await connection.close()
    await writer.close()
    await db.close()
    await link.close()
    tell("postgresql, a tenant's read on a replica, its mark from Redis", found)
    record("postgresql, the same read without replicas", cpu_ms=found["writer"][0], wall_ms=found["writer"][1])
