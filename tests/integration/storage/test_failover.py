"""An address that names both servers: the app and its jobs find the new primary without a restart."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.governance.audit import AuditHead
from app.jobs.store import Store, open_store
from app.storage.db import Database
from app.storage.failures import failure
from app.storage.postgres import ServerPool
from tests.support.databases import Addresses
from tests.support.postgres import PostgresServer, Replica, open_server
from tests.support.wire import Wire


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with open_server() as primary:
        yield primary


@pytest.fixture
def migrated(primary: PostgresServer) -> Addresses:
    return primary.new_database(migrated=True)


@pytest.fixture
def standby(primary: PostgresServer, migrated: Addresses) -> Iterator[Replica]:
    with primary.replica() as standby:
        standby.catch_up()
        yield standby


def address(name: str, kind: str, *ports: int) -> str:
    hosts = "&".join(f"host=127.0.0.1:{port}" for port in ports)
    return f"postgresql+asyncpg://trellis_api@/{name}?{hosts}&target_session_attrs={kind}"


async def write(db: Database, seq: int) -> None:
    async with db.transaction("acme") as session:
        await session.merge(AuditHead(tenant_id="acme", seq=seq, hash=""))


async def read(db: Database) -> int | None:
    async with db.reading("acme") as session:
        return await session.scalar(select(AuditHead.seq))


@pytest.fixture
async def db(primary: PostgresServer, standby: Replica, migrated: Addresses) -> AsyncIterator[Database]:
    ports = (primary.port, standby.port)
    writer = address(migrated.name, "read-write", *ports)
    db = Database(writer, reader_url=address(migrated.name, "standby", *ports))
    yield db
    await db.close()


@pytest.fixture
def store(primary: PostgresServer, standby: Replica, migrated: Addresses) -> Iterator[Store]:
    url = address(migrated.name, "read-write", primary.port, standby.port)
    store = open_store(url, worker=True, pool_size=1)
    yield store
    store.close()


def at(store: Store) -> int:
    with store.engine.connect() as connection:
        return int(connection.scalar(text("SELECT inet_server_port()")))


async def test_after_the_primarys_death_the_app_and_its_jobs_go_on_with_the_standby_that_took_over(
    db: Database, store: Store, primary: PostgresServer, standby: Replica
) -> None:
    await write(db, 1)
    standby.catch_up()
    assert (await read(db), at(store)) == (1, primary.port)
    assert store.waiting() == {}
    primary.kill()
    for attempt in (write, write):
        with pytest.raises(DBAPIError) as refused:
            await attempt(db, 2)
        assert failure(refused.value) is not None
    standby.promote()
    await write(db, 3)
    assert await read(db) == 3
    store.verify()
    assert (store.waiting(), at(store)) == ({}, standby.port)


async def test_a_machine_that_says_nothing_does_not_keep_the_other_one_from_being_asked(
    primary: PostgresServer, migrated: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.postgres.CONNECT_S", 3)
    with Wire(primary.port) as silent:
        silent.stall()
        db = Database(address(migrated.name, "any", silent.port, primary.port))
        await write(db, 1)
        assert await read(db) == 1
        await db.close()


async def test_a_connection_to_a_primary_that_became_a_standby_is_given_up(
    primary: PostgresServer, migrated: Addresses
) -> None:
    db = Database(migrated.app_url, pool=ServerPool(size=1))
    await write(db, 1)
    primary.do(f'ALTER DATABASE "{migrated.name}" SET default_transaction_read_only = on')
    async with db.writer.connect() as connection:
        await connection.execute(text("SET default_transaction_read_only = on"))
        await connection.commit()
    primary.do(f'ALTER DATABASE "{migrated.name}" RESET default_transaction_read_only')
    with pytest.raises(DBAPIError, match="read-only") as refused:
        await write(db, 2)
    assert failure(refused.value) is not None
    await write(db, 3)
    assert await read(db) == 3
    await db.close()


async def test_a_server_that_is_not_there_is_a_database_that_does_not_answer(
    primary: PostgresServer, migrated: Addresses
) -> None:
    primary.kill()
    db = Database(migrated.app_url)
    with pytest.raises(DBAPIError) as refused:
        await read(db)
    assert "does not answer" in str(failure(refused.value))
    await db.close()
