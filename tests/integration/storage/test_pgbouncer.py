"""The app behind PgBouncer in transaction mode, and limits of statements there and without it."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.governance.audit import AuditHead
from app.storage.db import Database
from app.storage.failures import failure
from app.storage.postgres import ServerPool
from tests.support.databases import Addresses
from tests.support.pgbouncer import PgBouncer, running_pgbouncer
from tests.support.postgres import PostgresServer

CALLS = 1_200
AT_ONCE = 40


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    with running_pgbouncer(postgres_server.port, pool_size=4) as pooler:
        yield pooler


async def call(db: Database, number: int) -> None:
    """One of a request's usual transactions: a tenant's own rows, read and written."""
    tenant = f"tenant{number % 30}"
    async with db.transaction(tenant) as session:
        head = await session.get(AuditHead, tenant, with_for_update=True)
        if head is None:
            session.add(AuditHead(tenant_id=tenant, seq=1, hash=""))
        else:
            head.seq += 1
    async with db.reading(tenant) as session:
        assert (await session.scalars(select(AuditHead.tenant_id))).all() == [tenant]
        assert await session.scalar(text("SELECT current_setting('statement_timeout')")) == "7s"


async def failures(db: Database) -> list[BaseException]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            await call(db, number)

    # The tenants' rows first: of two that insert the same one, one fails as it should.
    for number in range(30):
        await call(db, number)
    ended = await asyncio.gather(*(one(number) for number in range(30, CALLS)), return_exceptions=True)
    return [error for error in ended if isinstance(error, BaseException)]


async def test_1200_calls_through_few_server_connections_fail_nowhere(
    migrated_postgres: Addresses, pooler: PgBouncer
) -> None:
    db = Database(pooler.url(migrated_postgres.name), pool=ServerPool(size=20, statement_s=7, pooled=True))
    assert await failures(db) == []
    async with db.operator_reading() as session:
        assert await session.scalar(select(func.sum(AuditHead.seq))) == CALLS
    await db.close()


async def test_without_the_setting_prepared_statements_meet_other_connections(
    migrated_postgres: Addresses, pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What PgBouncer refuses at once when it is said as a connection opens; only statements are left to fail.
    monkeypatch.setattr(ServerPool, "limits", {})
    db = Database(pooler.url(migrated_postgres.name), pool=ServerPool(size=20))
    with pytest.raises(DBAPIError, match="prepared statement"):
        for number in range(CALLS):
            await asyncio.gather(*(call_bare(db, number + offset) for offset in range(AT_ONCE)))
    await db.close()


async def call_bare(db: Database, number: int) -> None:
    tenant = f"tenant{number % 30}"
    async with db.reading(tenant) as session:
        await session.execute(select(AuditHead.tenant_id).where(AuditHead.seq > number).limit(1 + number % 7))


@pytest.fixture(params=["direct", "pooled"])
async def db(
    request: pytest.FixtureRequest, migrated_postgres: Addresses, pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    pooled = request.param == "pooled"
    monkeypatch.setattr("app.storage.postgres.LOCK_WAIT_S", 0.2)
    url = pooler.url(migrated_postgres.name) if pooled else migrated_postgres.app_url
    db = Database(url, pool=ServerPool(size=2, statement_s=0.5, pooled=pooled))
    yield db
    await db.close()


async def test_a_slow_statement_ends_with_one_sentence_and_its_connection_is_used_again(db: Database) -> None:
    for _ in range(3):
        with pytest.raises(DBAPIError) as slow:
            async with db.reading("acme") as session:
                await session.execute(text("SELECT pg_sleep(60)"))
        said = failure(slow.value)
        assert said is not None
        assert (said.status, str(said)) == (503, "The database took too long over this: try again, or ask for less.")
    async with db.reading("acme") as session:
        assert await session.scalar(text("SELECT 1")) == 1


async def test_who_waits_too_long_for_anothers_row_is_told_the_same(db: Database) -> None:
    await call_once(db)
    async with db.transaction("acme") as session:
        await session.get(AuditHead, "acme", with_for_update=True)
        with pytest.raises(DBAPIError) as waited:
            await call_once(db)
    said = failure(waited.value)
    assert said is not None
    assert (said.status, str(said)) == (503, "Somebody else is changing the same at the moment: try again.")
    await call_once(db)


async def call_once(db: Database) -> None:
    async with db.transaction("acme") as session:
        await session.execute(
            text("INSERT INTO audit_heads VALUES ('acme', 1, '') ON CONFLICT (tenant_id) DO UPDATE SET seq = 2")
        )
