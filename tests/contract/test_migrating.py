"""Old and new programs on one schema, and changes of constraints: the same on both databases."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

import app.container  # noqa: F401 - every table of every room and pack is declared by its import
from app.errors import ConfigError
from app.ids import new_id
from app.storage import schema
from app.storage.db import Database
from app.storage.migrating import Migration
from app.storage.programs import PROGRAMS
from app.storage.revisions import ONE_BACK
from tests.support.revisions import HEAD, NewerProgram

DOCUMENT = text(
    "INSERT INTO documents (id, tenant_id, created_at, bot, slug, title, body, tags, content_hash, embedder, status,"
    " chunk_count, quarantined_count, updated_at) VALUES (:id, 'acme', '2026-03-02', 'b', :id, 'title', '', '[]', '',"
    " '', 'ready', 0, 0, '2026-03-02')"
)
UPLOAD = text(
    "INSERT INTO document_uploads (id, tenant_id, created_at, content) VALUES (:id, 'acme', '2026-03-02', '')"
)
POLICY = text(
    "INSERT INTO policies (id, tenant_id, created_at, pack, version, state, thresholds, evidence, created_by)"
    " VALUES ('p', 'acme', '2026-03-02', 'leads', 1, 'unheard of', '{}', '{}', '')"
)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    postgres = request.param == "postgres"
    url = (
        request.getfixturevalue("fresh_postgres_url") if postgres else f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}"
    )
    found = Database(url)
    await schema.upgrade(found.writer)
    yield found
    await found.close()


@pytest.fixture
def newer(tmp_path: Path) -> NewerProgram:
    return NewerProgram(tmp_path)


async def programs(database: Database) -> Sequence[str]:
    async with database.operator_reading() as session:
        return sorted((await session.scalars(select(PROGRAMS.c.program))).all())


async def test_an_old_program_starts_on_the_expanded_schema_of_a_newer_one(
    database: Database, newer: NewerProgram
) -> None:
    newer.add("9001", 'op.add_column("leads", sa.Column("more", sa.Text()))', 'op.drop_column("leads", "more")')
    with newer.running():
        await schema.upgrade(database.writer)
    await schema.check(database)
    assert await Migration(database.writer).run() == [], "its own `trellis migrate` has nothing to do either"
    assert await schema.current_revision(database) == "9001"


async def test_an_old_program_refuses_the_contracted_schema_of_a_newer_one(
    database: Database, newer: NewerProgram
) -> None:
    newer.add("9001", "pass")
    newer.add("9002", 'op.drop_column("leads", "phone")', more='oldest_program = "9001"')
    with newer.running():
        await schema.upgrade(database.writer)
    with pytest.raises(ConfigError, match=r"schema 9002 of a newer Trellis.*does not run on it"):
        await schema.check(database)
    with pytest.raises(ConfigError, match="does not know"):
        await Migration(database.writer).run()


async def test_a_new_program_refuses_an_old_schema(database: Database, newer: NewerProgram) -> None:
    newer.add("9001", "pass")
    with newer.running(), pytest.raises(ConfigError, match=f"has schema {HEAD}; this program needs 9001"):
        await schema.check(database)


async def test_the_schema_names_its_programs_as_it_goes_up_and_down(database: Database, newer: NewerProgram) -> None:
    before = await programs(database)
    assert before[-1] == HEAD
    newer.add("9001", "pass")
    newer.add("9002", "pass", more='oldest_program = "9001"')
    with newer.running():
        await schema.upgrade(database.writer, "9001")
        assert await programs(database) == [*before, "9001"]
        await schema.upgrade(database.writer)
        assert await programs(database) == ["9001", "9002"]
        await Migration(database.writer).run("9001", down=True)
        assert await programs(database) == [*before, "9001"]
        await Migration(database.writer).run(ONE_BACK, down=True)
    assert await programs(database) == before


async def test_the_other_way_than_asked_is_refused(database: Database) -> None:
    migration = Migration(database.writer)
    with pytest.raises(ConfigError, match="lies above 0004: say --down"):
        await migration.run("0004")
    await migration.run("0004", down=True)
    with pytest.raises(ConfigError, match=f"lies below {HEAD}: leave --down away"):
        await migration.run(HEAD, down=True)
    assert await schema.current_revision(database) == "0004"


async def test_a_plan_changes_nothing(database: Database) -> None:
    steps = await Migration(database.writer).plan("0003", down=True)
    assert [step.revision for step in steps][-1] == "0004"
    assert await schema.current_revision(database) == HEAD


async def test_a_check_is_added_and_taken_away_and_no_row_or_rule_is_lost(
    database: Database, newer: NewerProgram
) -> None:
    document = new_id("doc")
    async with database.operator_transaction() as session:
        await session.execute(DOCUMENT, {"id": document})
        await session.execute(UPLOAD, {"id": document})
    newer.add(
        "9001",
        """online.add_check("ck_documents_title", "documents", "title <> ''")""",
        'online.drop_constraint("ck_documents_title", "documents", "check")',
    )
    empty = text("UPDATE documents SET title = ''")
    with newer.running():
        await schema.upgrade(database.writer)
        assert await count(database, "document_uploads") == 1
        with pytest.raises(IntegrityError):
            await done(database, empty)
        await Migration(database.writer).run(ONE_BACK, down=True)
    await done(database, empty)
    await done(database, text("DELETE FROM documents"))
    assert await count(database, "document_uploads") == 0, "foreign keys hold after a migration"


async def test_a_copied_table_keeps_its_other_rules(database: Database, newer: NewerProgram) -> None:
    newer.add("9001", 'online.add_check("ck_policies_more", "policies", "version < 100")')
    newer.add("9002", 'online.drop_constraint("ck_policies_more", "policies", "check")')
    with newer.running():
        await schema.upgrade(database.writer)
    with pytest.raises(IntegrityError, match="ck_policies_state"):
        await done(database, POLICY)


async def test_a_foreign_key_is_added_and_holds(database: Database, newer: NewerProgram) -> None:
    newer.add(
        "9001",
        'online.add_foreign_key("fk_jobs", "documents", ["job_id"], "documents", ["id"], ondelete="SET NULL")',
        'online.drop_constraint("fk_jobs", "documents", "foreignkey")',
    )
    await done(database, DOCUMENT, id="first")
    dangling = text("UPDATE documents SET job_id = 'nobody'")
    with newer.running():
        await schema.upgrade(database.writer)
        with pytest.raises(IntegrityError):
            await done(database, dangling)
        await Migration(database.writer).run(ONE_BACK, down=True)
    await done(database, dangling)


async def test_a_row_that_breaks_a_new_rule_stops_the_revision_and_the_schema_stays(
    database: Database, newer: NewerProgram
) -> None:
    await done(database, DOCUMENT, id="first")
    newer.add("9001", """online.add_check("ck_documents_body", "documents", "body <> ''")""")
    with newer.running(), pytest.raises(ConfigError, match=r"9001.*ck_documents_body"):
        await schema.upgrade(database.writer)
    assert await schema.current_revision(database) == HEAD
    await done(database, text("UPDATE documents SET body = 'text'"))
    with newer.running():
        await schema.upgrade(database.writer)
        assert await schema.current_revision(database) == "9001"


async def done(database: Database, statement: object, **values: str) -> None:
    async with database.operator_transaction() as session:
        await session.execute(statement, values)  # type: ignore[call-overload]


async def count(database: Database, table: str) -> int:
    async with database.operator_reading() as session:
        return int((await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())
