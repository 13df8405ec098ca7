"""SQLite in one trip a statement: what SQLAlchemy gets is what aiosqlite's own cursor would have given."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from app.storage.db import Database
from app.storage.sqlite import OneTripConnection


@pytest.fixture
async def db(tmp_path) -> AsyncIterator[Database]:
    made = Database(f"sqlite+aiosqlite:///{tmp_path / 'one.db'}")
    async with made.operator_transaction() as session:
        await session.execute(text("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT UNIQUE)"))
        rows = [{"name": f"thing {number}"} for number in range(1, 6)]
        await session.execute(text("INSERT INTO things (name) VALUES (:name)"), rows)
    yield made
    await made.close()


async def test_the_database_opens_its_connections_this_way(db):
    async with db.operator_reading() as session:
        raw = await (await session.connection()).get_raw_connection()
        assert isinstance(raw.driver_connection, OneTripConnection)


async def test_a_statement_is_one_trip_to_the_thread(db):
    async with db.operator_reading() as session:
        connection = (await (await session.connection()).get_raw_connection()).driver_connection
        trips = []
        execute = connection._execute
        connection._execute = lambda work, *args: trips.append(work) or execute(work, *args)
        assert len((await session.execute(text("SELECT id FROM things"))).all()) == 5
        assert len(trips) == 1


async def test_rows_names_and_counts_come_back(db):
    async with db.operator_transaction() as session:
        found = (await session.execute(text("SELECT id, name FROM things WHERE id < 3 ORDER BY id"))).mappings().all()
        assert [dict(row) for row in found] == [{"id": 1, "name": "thing 1"}, {"id": 2, "name": "thing 2"}]
        assert (await session.execute(text("SELECT id FROM things WHERE id > 9"))).all() == []
        assert (await session.execute(text("UPDATE things SET name = name || '!' WHERE id > 3"))).rowcount == 2
        assert (await session.execute(text("DELETE FROM things WHERE id = 1 RETURNING name"))).scalar() == "thing 1"


async def test_a_stream_gives_every_row_in_order(db):
    async with db.operator_reading() as session:
        stream = await session.stream_scalars(text("SELECT id FROM things ORDER BY id").execution_options(yield_per=2))
        assert [number async for number in stream] == [1, 2, 3, 4, 5]
        some = await session.stream_scalars(text("SELECT id FROM things ORDER BY id"))
        assert (await some.first(), await session.scalar(text("SELECT count(*) FROM things"))) == (1, 5)


async def test_a_refused_row_is_an_integrity_error_and_the_connection_goes_on(db):
    with pytest.raises(IntegrityError):
        async with db.operator_transaction() as session:
            await session.execute(text("INSERT INTO things (name) VALUES ('new'), ('thing 1')"))
    async with db.operator_transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM things")) == 5


async def test_a_statement_that_cannot_be_read_is_an_operational_error(db):
    with pytest.raises(OperationalError):
        async with db.operator_reading() as session:
            await session.execute(text("SELECT nothing FROM nowhere"))


async def test_a_cancelled_statement_leaves_a_usable_database(db):
    slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT max(i) FROM n"

    async def run() -> None:
        async with db.operator_transaction() as session:
            await session.execute(text(slow))

    running = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with db.operator_transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM things")) == 5


async def test_what_was_deleted_is_in_none_of_the_files(db, tmp_path):
    secrets = [f"nebelharfe-{number}" for number in range(500)]
    async with db.operator_transaction() as session:
        await session.execute(text("INSERT INTO things (name) VALUES (:name)"), [{"name": name} for name in secrets])
    async with db.operator_transaction() as session:
        await session.execute(text("UPDATE things SET name = 'x' || id WHERE id % 3 = 0"))
    async with db.operator_transaction() as session:
        await session.execute(text("DELETE FROM things WHERE name LIKE 'nebelharfe%'"))
    assert "nebelharfe" in said(tmp_path)
    assert await db.forget_deleted()
    assert "nebelharfe" not in said(tmp_path)


async def test_a_reader_in_the_way_is_waited_for_and_then_named(db, monkeypatch):
    monkeypatch.setattr("app.storage.db.LOG_WAIT_S", 0.05)
    async with db.operator_reading() as session:
        await session.execute(text("SELECT * FROM things"))
        async with db.operator_transaction() as writing:
            await writing.execute(text("DELETE FROM things"))
        assert not await db.forget_deleted()
    assert await db.forget_deleted()


def said(folder):
    return "".join(path.read_bytes().decode("latin-1") for path in folder.iterdir())
