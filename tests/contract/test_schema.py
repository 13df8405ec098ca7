"""The revisions make what the models declare, on both databases, and can be taken back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, text

import app.container  # noqa: F401 - every table of every room and pack is declared by its import
from app.storage import schema
from app.storage.base import Base
from app.storage.db import Database
from app.storage.revisions import Revisions
from tests.support.any_rows import Rows, changed, fill, rows

OURS = frozenset(Base.metadata.tables)
VERSION = "alembic_version"


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    postgres = request.param == "postgres"
    url = (
        request.getfixturevalue("fresh_postgres_url") if postgres else f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}"
    )
    found = Database(url)
    yield found
    await found.close()


def looking(database: Database) -> Engine:
    """Past the app: reading the tables of a schema over the event loop takes seconds."""
    driver = "sqlite" if database.dialect == "sqlite" else "postgresql+psycopg"
    return create_engine(database.writer.url.set(drivername=driver), poolclass=NullPool)


def filled(database: Database, mark: str) -> Rows:
    """All rows, with one more in every table."""
    with looking(database).begin() as connection:
        fill(connection, mark)
        return rows(connection)


def found(database: Database) -> Rows:
    with looking(database).connect() as connection:
        return rows(connection)


async def tables(database: Database) -> set[str]:
    async with database.reader.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def test_up_down_and_up_again_leave_the_same_schema(database: Database) -> None:
    await schema.upgrade(database.writer)
    assert await tables(database) == OURS | {VERSION}
    await schema.downgrade(database.writer, "base")
    assert await tables(database) == {VERSION}
    assert await schema.current_revision(database) is None
    await schema.upgrade(database.writer)
    assert await tables(database) == OURS | {VERSION}
    await schema.check(database)


async def test_a_second_upgrade_keeps_what_is_stored(database: Database) -> None:
    await schema.upgrade(database.writer)
    async with database.operator_transaction() as session:
        await session.execute(text("INSERT INTO audit_heads (tenant_id, seq, hash) VALUES ('acme', 0, '')"))
    await schema.upgrade(database.writer)
    async with database.operator_reading() as session:
        assert (await session.execute(text("SELECT count(*) FROM audit_heads"))).scalar_one() == 1


async def test_a_row_in_every_table_survives_each_revision_up_down_and_up(database: Database) -> None:
    before: Rows = {}
    for step in (known := Revisions()).path(None, known.head):
        await schema.upgrade(database.writer, step.revision)
        assert (step, changed(before, found(database))) == (step, [])
        full = filled(database, step.revision)
        await schema.downgrade(database.writer, step.before or "base")
        assert (step, changed(full, found(database))) == (step, [])
        await schema.upgrade(database.writer, step.revision)
        again = found(database)
        assert (step, changed({name: full[name] for name in before}, again)) == (step, [])
        assert {name for name in again if not again[name]} == full.keys() - before.keys()
        before = filled(database, f"{step.revision}x")


async def test_rows_that_a_revision_loses_or_changes_are_seen(database: Database) -> None:
    await schema.upgrade(database.writer)
    before = filled(database, "old")
    async with database.operator_transaction() as session:
        await session.execute(text("UPDATE leads SET name = 'other'"))
        await session.execute(text("DELETE FROM bots"))
    assert set(changed(before, found(database))) == {"leads", "bots"}


async def test_the_models_and_the_revisions_do_not_differ(database: Database) -> None:
    await schema.upgrade(database.writer)
    async with database.writer.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_column_that_no_revision_makes_is_seen(database: Database) -> None:
    await schema.upgrade(database.writer)
    async with database.operator_transaction() as session:
        await session.execute(text("ALTER TABLE audit_heads ADD COLUMN stray INTEGER"))
    async with database.writer.connect() as connection:
        [found] = await connection.run_sync(differences)
    assert found[0] == "remove_column"


def differences(connection: Connection) -> list[object]:
    """What `alembic revision --autogenerate` would write."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, Base.metadata))
