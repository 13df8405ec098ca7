"""Migrations of a PostgreSQL that others use: locks that are held, builds that are interrupted, two migrators."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

import app.container  # noqa: F401 - every table of every room and pack is declared by its import
from app.errors import ConfigError, Unavailable
from app.packs.leads.models import Lead
from app.storage import schema
from app.storage.db import Database
from app.storage.failures import failure
from app.storage.migrating import ONE_MIGRATOR, Migration, Patience
from app.storage.revisions import ONE_BACK, Revisions
from tests.support.databases import APP, Addresses
from tests.support.revisions import HEAD, NewerProgram
from tests.support.server import ROOT, environment

SOON = Patience(first_s=0.05, longest_s=0.2, all_s=30)
BRIEF = Patience(first_s=0.05, longest_s=0.1, all_s=0.2)
INDEX = 'online.create_index("ix_leads_more", "leads", ["tenant_id", "name"])'
VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_leads_more')")
BUILDING = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'"
    " AND wait_event_type = 'Lock'"
)


@pytest.fixture
async def database(migrated_postgres: Addresses) -> AsyncIterator[Database]:
    """As the owner, who migrates."""
    found = Database(migrated_postgres.owner_url)
    yield found
    await found.close()


@pytest.fixture
async def other(database: Database) -> AsyncIterator[AsyncConnection]:
    """Somebody else's connection; its transaction ends with the test at the latest."""
    async with database.writer.connect() as connection:
        yield connection


@pytest.fixture
def newer(tmp_path: Path) -> NewerProgram:
    return NewerProgram(tmp_path)


async def test_a_lock_that_is_held_is_asked_for_again_until_it_is_got(
    database: Database, other: AsyncConnection, newer: NewerProgram
) -> None:
    newer.add("9001", 'op.add_column("leads", sa.Column("more", sa.Text()))', 'op.drop_column("leads", "more")')
    told: list[str] = []
    refused = asyncio.Event()

    def hear(sentence: str) -> None:
        told.append(sentence)
        refused.set()

    await other.execute(text("SELECT * FROM leads"))
    with newer.running():
        running = asyncio.create_task(Migration(database.writer, patience=SOON, told=hear).run())
        await refused.wait()
        await other.rollback()
        [step] = await running
    assert step.revision == "9001"
    assert told[0].startswith("9001 a test's: a lock was not got; next try in 0.05 s")
    assert told[-1].startswith("9001 a test's: applied in")


async def test_who_asks_behind_a_migration_that_waits_is_answered_before_it_gets_its_lock(
    database: Database, other: AsyncConnection, newer: NewerProgram
) -> None:
    newer.add("9001", 'op.add_column("leads", sa.Column("more", sa.Text()))')
    await other.execute(text("SELECT * FROM leads"))
    with newer.running():
        running = asyncio.create_task(Migration(database.writer, patience=SOON).run())
        await seen(database, text("SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"))
        async with database.operator_reading() as session:
            assert (await session.execute(text("SELECT count(*) FROM leads"))).scalar_one() == 0
        assert not running.done()
        await other.rollback()
        await running


async def test_a_lock_that_is_never_got_ends_in_one_sentence_and_nothing_half_done(
    database: Database, other: AsyncConnection, newer: NewerProgram
) -> None:
    newer.add("9001", 'op.create_table("half", sa.Column("id", sa.Text())); op.drop_column("leads", "phone")')
    await other.execute(text("SELECT * FROM leads"))
    with newer.running(), pytest.raises(Unavailable, match=rf"9001 a test's waited 0.2 s .* The schema is {HEAD}"):
        await Migration(database.writer, patience=BRIEF).run()
    assert await schema.current_revision(database) == HEAD
    assert (await other.execute(text("SELECT to_regclass('half')"))).scalar_one() is None
    limits = (await other.execute(text("SHOW lock_timeout"))).scalar_one()
    assert limits == "10s", "the app's own connections keep their limits"


async def test_an_index_build_that_was_interrupted_is_done_again(
    database: Database, other: AsyncConnection, newer: NewerProgram
) -> None:
    newer.add("9001", INDEX, 'online.drop_index("ix_leads_more", "leads")')
    await other.execute(text("LOCK TABLE leads IN ROW EXCLUSIVE MODE"))
    with newer.running():
        interrupted = asyncio.create_task(Migration(database.writer).run())
        await stopped(database, await seen(database, BUILDING))
        with pytest.raises(Unavailable):
            await interrupted
        await other.rollback()
        assert (await other.execute(VALID)).scalar_one() is False
        await other.rollback()
        assert await schema.current_revision(database) == HEAD
        await schema.upgrade(database.writer)
        assert (await other.execute(VALID)).scalar_one() is True
        await other.rollback()
        await Migration(database.writer).run(ONE_BACK, down=True)
        assert (await other.execute(VALID)).scalar_one_or_none() is None


async def test_an_index_is_built_while_rows_are_written(
    database: Database, other: AsyncConnection, newer: NewerProgram
) -> None:
    newer.add("9001", INDEX)
    await other.execute(text("LOCK TABLE leads IN ROW EXCLUSIVE MODE"))
    with newer.running():
        building = asyncio.create_task(Migration(database.writer).run())
        await seen(database, BUILDING)
        async with database.operator_transaction() as session:
            await session.execute(text("UPDATE leads SET name = 'other'"))
        assert not building.done()
        await other.rollback()
        await building
    assert (await other.execute(VALID)).scalar_one() is True


async def test_a_revision_whose_build_was_done_but_not_recorded_can_be_run_again(
    database: Database, newer: NewerProgram
) -> None:
    newer.add("9001", INDEX)
    with newer.running():
        await schema.upgrade(database.writer)
        async with database.operator_transaction() as session:
            await session.execute(text(f"UPDATE alembic_version SET version_num = '{HEAD}'"))
        await schema.upgrade(database.writer)
        assert await schema.current_revision(database) == "9001"


async def test_policies_that_were_left_half_made_are_completed(database: Database) -> None:
    await Migration(database.writer).run("0003", down=True)
    async with database.operator_transaction() as session:
        await session.execute(text("CREATE POLICY tenant_rows ON leads USING (tenant_id = 'x') WITH CHECK (true)"))
        await session.execute(text("ALTER TABLE leads ENABLE ROW LEVEL SECURITY"))
    await schema.upgrade(database.writer)
    forced = text("SELECT count(*) FROM pg_class WHERE relrowsecurity AND relforcerowsecurity")
    policies = text("SELECT count(*) FROM pg_policies WHERE policyname = 'tenant_rows'")
    async with database.operator_reading() as session:
        made = (await session.execute(forced)).scalar_one()
        assert made == (await session.execute(policies)).scalar_one() > 50


async def test_a_second_migrator_waits_for_the_first_and_finds_nothing_to_do(
    database: Database, other: AsyncConnection
) -> None:
    await Migration(database.writer).run(ONE_BACK, down=True)
    await other.execute(text(f"SELECT pg_advisory_lock({ONE_MIGRATOR})"))
    await other.commit()
    waits = asyncio.Event()
    second = asyncio.create_task(Migration(database.writer, patience=SOON, told=lambda _: waits.set()).run())
    await waits.wait()
    await other.execute(text(f"SELECT pg_advisory_unlock({ONE_MIGRATOR})"))
    await other.commit()
    assert [step.revision for step in await second] == [HEAD]


async def test_a_migrator_that_does_not_end_is_not_waited_for_for_ever(
    database: Database, other: AsyncConnection
) -> None:
    await other.execute(text(f"SELECT pg_advisory_lock({ONE_MIGRATOR})"))
    with pytest.raises(Unavailable, match="Another migration is still running"):
        await Migration(database.writer, patience=BRIEF).run()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_commands_at_once_make_one_schema(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    url = {"TRELLIS_DATABASE_URL": request.getfixturevalue("fresh_postgres_url")} if kind == "postgres" else {}
    command = [sys.executable, "-m", "app.cli", "migrate"]
    both = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(tmp_path, 1, **url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert all(f"The database has schema {HEAD}." in output for output, _ in ended)
    assert sum(output.count("applied in") for output, _ in ended) == len(Revisions().names)


async def test_a_login_that_owns_nothing_is_told_whose_the_schema_is(migrated_postgres: Addresses) -> None:
    found = Database(migrated_postgres.app_url)
    with pytest.raises(ConfigError, match=r"trellis_api may not do that: set TRELLIS_DATABASE_OWNER_URL"):
        await Migration(found.writer).run("0003", down=True)
    await found.close()


EXPANDING = (
    "ALTER TABLE leads ADD COLUMN more text",
    "CREATE INDEX ix_leads_more ON leads (more)",
    "ALTER TABLE leads NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE leads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "ALTER TABLE leads ADD CONSTRAINT ck_more CHECK (length(more) < 40) NOT VALID",
    "ALTER TABLE leads DROP COLUMN more",
)


async def test_prepared_statements_outlive_what_a_revision_may_do(database: Database) -> None:
    """What changes a type in place they do not outlive: squawk refuses it (`changing-column-type`), and who does it by
    hand has one answer of 503 for each process."""
    app = Database(str(database.writer.url.set(username=APP)))
    await read_leads(app)
    for statement in EXPANDING:
        await changed(database, statement)
        await read_leads(app)
    await changed(database, "ALTER TABLE leads ALTER COLUMN external_id TYPE varchar(220)")
    with pytest.raises(DBAPIError) as stale:
        await read_leads(app)
    assert isinstance(failure(stale.value), Unavailable)
    await read_leads(app)
    await app.close()


async def read_leads(database: Database) -> None:
    async with database.reading("acme") as session:
        assert (await session.scalars(select(Lead))).all() == []


async def changed(database: Database, statement: str) -> None:
    async with database.writer.begin() as connection:
        await connection.execute(text(statement))


async def seen(database: Database, query: object) -> int:
    """The first value of a query, as soon as there is one."""
    async with asyncio.timeout(30), database.writer.connect() as connection:
        while True:
            found = (await connection.execute(query)).scalar()  # type: ignore[call-overload]
            await connection.rollback()
            if found is not None:
                return int(found)
            await asyncio.sleep(0.01)


async def stopped(database: Database, pid: int) -> None:
    """Ends a server process, as an administrator or a lost connection does."""
    async with database.writer.connect() as connection:
        await connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
