"""Reads on a real standby: a tenant never sees a state older than its own last write, whatever is away."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.cache.connection import PAUSE_S as REDIS_PAUSE_S
from app.cache.connection import RedisLink, connect
from app.cache.marks import RedisMarks
from app.governance.audit import AuditHead
from app.principal import EVERY_TENANT
from app.storage import replicas
from app.storage.db import Database
from app.storage.marks import LocalMarks
from app.storage.replicas import PAUSE_S, ReadAt
from tests.support.databases import Addresses
from tests.support.postgres import PostgresServer, Replica, free_port
from tests.support.redis import RedisServer, running
from tests.support.wire import Wire

REPLICA, BEHIND, UNKNOWN, AWAY = ReadAt


@pytest.fixture(scope="module")
def standby(postgres_server: PostgresServer) -> Iterator[Replica]:
    with postgres_server.replica() as standby:
        yield standby


@pytest.fixture
def resumed(standby: Replica) -> Iterator[Replica]:
    yield standby
    standby.resume_replay()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server


class Process:
    """A process of the app: its own pools, its own connection to Redis, a clock that the test moves."""

    def __init__(self, url: str, reader_url: str, redis: RedisServer) -> None:
        self.now = 100.0
        self.went: list[ReadAt] = []
        self.link = RedisLink(connect(redis.url).client, lambda: self.now)
        self.db = Database(url, reader_url=reader_url, marks=RedisMarks(self.link), told=self.went.append)
        self.db._replicas._monotonic = lambda: self.now

    async def write(self, tenant: str, seq: int) -> None:
        async with self.db.transaction(tenant) as session:
            await session.merge(AuditHead(tenant_id=tenant, seq=seq, hash=""))

    async def read(self, tenant: str) -> int | None:
        async with self.db.reading(tenant) as session:
            return await session.scalar(select(AuditHead.seq).where(AuditHead.tenant_id == tenant))

    async def close(self) -> None:
        await self.db.close()
        await self.link.close()


Start = Callable[..., Process]


@pytest.fixture
async def start(migrated_postgres: Addresses, standby: Replica, redis: RedisServer) -> AsyncIterator[Start]:
    standby.catch_up()
    async with AsyncExitStack() as stack:

        def start(*, url: str = migrated_postgres.app_url, reader_url: str | None = None) -> Process:
            process = Process(url, reader_url or standby.url(migrated_postgres.name, "trellis_api"), redis)
            stack.push_async_callback(process.close)
            return process

        yield start


async def test_a_tenant_sees_its_write_while_the_replica_stands_still_and_reads_there_once_it_caught_up(
    start: Start, resumed: Replica
) -> None:
    process = start()
    await process.write("acme", 1)
    resumed.catch_up()
    assert await process.read("acme") == 1
    resumed.pause_replay()
    await process.write("acme", 2)
    assert [await process.read("acme"), await process.read("globex")] == [2, None]
    assert process.went == [REPLICA, BEHIND, REPLICA]
    resumed.resume_replay()
    resumed.catch_up()
    assert await process.read("acme") == 2
    assert process.went[-1] == REPLICA


async def test_what_another_process_or_an_operator_wrote_is_seen(start: Start, resumed: Replica) -> None:
    one, other = start(), start()
    await one.write("acme", 1)
    resumed.catch_up()
    assert await other.read("acme") == 1
    resumed.pause_replay()
    await one.write("acme", 2)
    assert await other.read("acme") == 2
    async with one.db.operator_transaction() as session:
        await session.execute(text("UPDATE audit_heads SET seq = 3"))
    assert [await other.read("acme"), await other.read("globex")] == [3, None]
    assert other.went == [REPLICA, BEHIND, BEHIND, BEHIND]


async def test_a_batch_of_some_tenants_moves_those_to_the_writer_and_no_other(start: Start, resumed: Replica) -> None:
    one, other = start(), start()
    await one.write("acme", 1)
    resumed.catch_up()
    assert await other.read("acme") == 1
    resumed.pause_replay()
    async with one.db.transaction_of(["globex", "initech", "globex"]) as session:
        session.add_all([AuditHead(tenant_id=tenant, seq=2, hash="") for tenant in ("globex", "initech")])
    assert [await other.read(tenant) for tenant in ("globex", "initech", "acme")] == [2, 2, 1]
    assert other.went == [REPLICA, BEHIND, BEHIND, REPLICA]


async def test_a_batch_of_one_tenant_is_held_to_it(start: Start) -> None:
    process = start()
    with pytest.raises(DBAPIError, match="row-level security"):
        async with process.db.transaction_of(["acme"]) as session:
            session.add(AuditHead(tenant_id="globex", seq=1, hash=""))
    with pytest.raises(ValueError, match="without a tenant"):
        async with process.db.transaction_of([]):
            pass


async def test_a_transaction_that_only_reads_moves_nobody_to_the_writer(start: Start, resumed: Replica) -> None:
    process = start()
    await process.write("acme", 1)
    resumed.catch_up()
    await process.read("acme")
    resumed.pause_replay()
    async with process.db.transaction("acme") as session:
        assert await session.scalar(select(AuditHead.seq)) == 1
    async with process.db.transaction("acme"):
        pass
    assert await process.read("acme") == 1
    assert process.went == [REPLICA] * 2


async def test_a_savepoint_and_text_count_as_writes_and_a_rollback_as_none(start: Start, resumed: Replica) -> None:
    process = start()
    await process.write("acme", 1)
    resumed.catch_up()
    await process.read("acme")
    resumed.pause_replay()
    with pytest.raises(ZeroDivisionError):
        async with process.db.transaction("acme") as session:
            await session.execute(text("UPDATE audit_heads SET seq = 9"))
            raise ZeroDivisionError
    assert await process.read("acme") == 1
    async with process.db.transaction("acme") as session, session.begin_nested():
        await session.execute(text("WITH new AS (UPDATE audit_heads SET seq = 2 RETURNING 1) SELECT * FROM new"))
    assert await process.read("acme") == 2
    assert process.went == [REPLICA, REPLICA, BEHIND]


async def test_without_redis_reads_go_to_the_writer_and_what_was_written_meanwhile_is_told_later(
    start: Start, resumed: Replica, redis: RedisServer, tmp_path: Path
) -> None:
    one, other = start(), start()
    await one.write("acme", 1)
    resumed.catch_up()
    await one.read("acme")
    resumed.pause_replay()
    redis.kill()
    await one.write("acme", 2)
    assert [await one.read("acme"), await other.read("acme")] == [2, 2]
    assert [one.went[-1], other.went[-1]] == [UNKNOWN, UNKNOWN]
    with running(tmp_path, port=redis.port) as empty:
        one.now, other.now = one.now + REDIS_PAUSE_S, other.now + REDIS_PAUSE_S
        assert [await other.read("acme"), await one.read("acme")] == [2, 2]
        assert [other.went[-1], one.went[-1]] == [BEHIND, BEHIND]
        assert empty.client().exists("trellis:{marks}:start", "trellis:{marks}:of:acme") == 2
        resumed.resume_replay()
        resumed.catch_up()
        assert [await other.read("acme"), await other.read("globex")] == [2, None]
        assert other.went[-2:] == [REPLICA, REPLICA]


async def test_positions_that_a_new_master_of_redis_missed_are_told_again(
    start: Start, resumed: Replica, redis: RedisServer
) -> None:
    one, other = start(), start()
    await one.write("acme", 1)
    resumed.catch_up()
    await one.read("acme")
    missed = redis.client().get("trellis:{marks}:of:acme")
    resumed.pause_replay()
    await one.write("acme", 2)
    redis.client().set("trellis:{marks}:of:acme", missed)
    assert await one.read("acme") == 2
    redis.client().execute_command("CLIENT", "PAUSE", 4_000)
    assert (await one.read("acme"), one.went[-1]) == (2, UNKNOWN)
    redis.client().execute_command("CLIENT", "UNPAUSE")
    one.now += REDIS_PAUSE_S
    await one.read("globex")
    assert (await other.read("acme"), other.went[-1]) == (2, BEHIND)


async def test_a_commit_whose_position_is_unknown_stands_and_nobody_reads_behind_it(
    start: Start, resumed: Replica, migrated_postgres: Addresses, postgres_server: PostgresServer
) -> None:
    with Wire(postgres_server.port) as wire:
        one = start(url=f"postgresql+asyncpg://trellis_api@127.0.0.1:{wire.port}/{migrated_postgres.name}")
        other = start()
        await one.write("acme", 1)
        resumed.catch_up()
        assert (await other.read("acme"), other.went[-1]) == (1, REPLICA)
        resumed.pause_replay()

        async def fails(_driver: object) -> int:
            wire.cut()
            raise ConnectionResetError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.storage.writes.tell_position", fails)
            await one.write("acme", 2)
        assert (await other.read("acme"), other.went[-1]) == (2, BEHIND)
        assert await other.read("globex") is None
        wire.heal()
        assert (await one.read("acme"), one.went[-1]) == (2, BEHIND)
    resumed.resume_replay()
    resumed.catch_up()
    assert (await other.read("acme"), other.went[-1]) == (2, REPLICA)


async def test_a_caller_that_is_cancelled_after_its_commit_leaves_no_write_untold(
    start: Start, resumed: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = start(), start()
    await one.write("acme", 1)
    resumed.catch_up()
    await one.read("acme")
    resumed.pause_replay()
    noting, go_on = asyncio.Event(), asyncio.Event()
    note = RedisMarks.note

    async def slow(marks: RedisMarks, tenant: str, position: int) -> None:
        noting.set()
        await go_on.wait()
        await note(marks, tenant, position)

    monkeypatch.setattr(RedisMarks, "note", slow)
    writing = asyncio.create_task(one.write("acme", 2))
    await noting.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert (await one.read("acme"), one.went[-1]) == (2, UNKNOWN)
    go_on.set()
    await one.close()
    assert (await other.read("acme"), other.went[-1]) == (2, BEHIND)


async def test_an_operator_reads_the_writer(start: Start, resumed: Replica) -> None:
    process = start()
    await process.write("acme", 1)
    resumed.catch_up()
    async with process.db.operator_reading() as session:
        assert not await session.scalar(text("SELECT pg_is_in_recovery()"))


async def test_a_killed_replica_costs_no_read_and_is_back_after_the_pause(start: Start, standby: Replica) -> None:
    process = start()
    await process.write("acme", 1)
    standby.catch_up()
    assert await process.read("acme") == 1
    standby.kill()
    assert [await process.read("acme") for _ in range(3)] == [1, 1, 1]
    standby.start()
    standby.catch_up()
    assert (await process.read("acme"), process.went) == (1, [REPLICA, AWAY, AWAY, AWAY, AWAY])
    process.now += PAUSE_S
    assert (await process.read("acme"), process.went[-1]) == (1, REPLICA)


async def test_a_replica_that_was_promoted_is_read_no_more(
    start: Start, postgres_server: PostgresServer, migrated_postgres: Addresses
) -> None:
    with postgres_server.replica() as standby:
        process = start(reader_url=standby.url(migrated_postgres.name, "trellis_api"))
        await process.write("acme", 1)
        standby.catch_up()
        assert (await process.read("acme"), process.went) == (1, [REPLICA])
        standby.promote()
        await process.write("acme", 2)
        for _ in range(20):
            standby.do("SELECT pg_switch_wal()")
        process.now += PAUSE_S
        assert (await process.read("acme"), process.went[-1]) == (2, AWAY)


async def test_a_position_told_late_to_an_empty_redis_is_no_beginning(redis: RedisServer) -> None:
    link = connect(redis.url)
    marks = RedisMarks(link)
    await marks.note("acme", 1 << 64 | 900)
    assert isinstance(await marks.needed("acme"), replicas.Unknown)
    await link.close()


async def test_a_standby_of_an_older_timeline_is_not_read_after_a_failover(redis: RedisServer) -> None:
    link = connect(redis.url)
    marks, reader = RedisMarks(link), RedisMarks(link)
    await marks.note("acme", 1 << 64 | 900)
    await marks.start(1 << 64 | 900, await marks.needed("acme"))
    await marks.note("globex", 2 << 64 | 800)
    assert {await reader.needed(tenant) >> 64 for tenant in ("acme", "globex", "never_wrote")} == {2}
    await link.close()


@pytest.mark.parametrize("kind", ["one process", "redis"])
async def test_a_beginning_that_was_lost_while_it_was_asked_for_does_not_count(kind: str, redis: RedisServer) -> None:
    link = connect(redis.url)
    marks = LocalMarks() if kind == "one process" else RedisMarks(link)
    asked = await marks.needed("acme")
    await marks.lose()
    later = await marks.start(5, asked)
    assert isinstance(later, replicas.Unknown)
    assert later != asked
    assert await marks.start(7, later) == 7
    await marks.note("acme", 3)
    assert [await marks.needed("acme"), await marks.start(9, asked)] == [7, 7]
    await marks.note(EVERY_TENANT, 8)
    assert [await marks.needed("acme"), await marks.needed("globex")] == [8, 8]
    await link.close()


async def test_more_tenants_than_a_list_keeps_are_all_made_to_wait(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cache.marks._OWED", 2)
    now = 100.0
    link = RedisLink(connect(f"redis://127.0.0.1:{free_port()}/0").client, lambda: now)
    marks = RedisMarks(link)
    for number, tenant in enumerate(("one", "two", "three"), start=1):
        await marks.note(tenant, number)
    marks._link = connect(redis.url)
    await marks.start(0, await marks.needed("one"))
    assert {await marks.needed(tenant) for tenant in ("one", "two", "four")} == {3}
    await link.close()
    await marks._link.close()
