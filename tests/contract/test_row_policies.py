"""PostgreSQL keeps tenants apart by itself: the policies are on every table, and no statement gets around them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from app.governance.audit import AuditHead
from app.principal import EVERY_TENANT
from app.storage.db import Database
from app.storage.postgres import TENANT, ServerPool
from tests.support.databases import Addresses
from tests.support.examples import examples
from tests.support.pgbouncer import PgBouncer, running_pgbouncer
from tests.support.postgres import PostgresServer
from tests.support.wire import Wire

MINE = "current_setting('trellis.tenant'::text, true)"
POLICY = f"(({MINE} = (tenant_id)::text) OR ({MINE} = '*'::text))"
UNPROTECTED = text("""
SELECT relname FROM pg_class
WHERE relkind IN ('r', 'p', 'm', 'f') AND relnamespace IN (to_regnamespace('public'), to_regnamespace('dbos'))
    AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'tenant_id' AND NOT attisdropped)
    AND NOT (relrowsecurity AND relforcerowsecurity AND EXISTS (
        SELECT FROM pg_policy WHERE polrelid = pg_class.oid
        HAVING array_agg(concat_ws(' ', polname, polpermissive, polcmd, polroles,
            pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)))
            = ARRAY[concat_ws(' ', 'tenant_rows', true, '*', '{0}', CAST(:policy AS text), CAST(:policy AS text))]))
ORDER BY relname
""")
# Of the operator, or (tickets) read before it is known whose they are.
WITHOUT_TENANT = {"alembic_version", "console_used_tickets", "flags", "job_workers", "schema_programs", "tenants"}


@pytest.fixture(scope="module")
def addresses(postgres_server: PostgresServer) -> Iterator[Addresses]:
    found = postgres_server.new_database(migrated=True)
    yield found
    postgres_server.drop_database(found.name)


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    with running_pgbouncer(postgres_server.port, pool_size=1) as pooler:
        yield pooler


async def unprotected(db: Database) -> Sequence[str]:
    async with db.operator_reading() as session:
        return (await session.scalars(UNPROTECTED, {"policy": POLICY})).all()


@pytest.fixture
async def owner(addresses: Addresses) -> AsyncIterator[Database]:
    db = Database(addresses.owner_url)
    yield db
    await db.close()


async def test_every_table_with_a_tenant_has_the_policy_forced(owner: Database) -> None:
    assert await unprotected(owner) == []
    async with owner.operator_reading() as session:
        ours = select(func.count()).select_from(text("pg_class")).where(text("relforcerowsecurity"))
        assert await session.scalar(ours) > 50


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE forgotten (tenant_id text)",
        "CREATE TABLE forgotten (tenant_id varchar(64)); ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY",
        "CREATE MATERIALIZED VIEW forgotten AS SELECT tenant_id FROM leads",
        "ALTER TABLE leads RENAME TO forgotten; ALTER TABLE forgotten NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE leads RENAME TO forgotten; CREATE POLICY wide ON forgotten USING (true)",
        "ALTER TABLE leads RENAME TO forgotten; ALTER POLICY tenant_rows ON forgotten WITH CHECK (true)",
        "ALTER TABLE leads RENAME TO forgotten; DROP POLICY tenant_rows ON forgotten",
    ],
)
async def test_a_table_that_the_policy_does_not_hold_is_found(owner: Database, change: str) -> None:
    async with owner.writer.connect() as connection:
        for statement in change.split(";"):
            await connection.execute(text(statement))
        found = await connection.scalars(UNPROTECTED, {"policy": POLICY})
        assert found.all() == ["forgotten"]


FOREIGN = "globex"
HOW = {
    "insert": f"INSERT INTO audit_heads VALUES ('{FOREIGN}2', :n, '')",
    "upsert": f"INSERT INTO audit_heads VALUES ('{FOREIGN}', :n, '') ON CONFLICT (tenant_id) DO UPDATE SET seq = :n",
    "update": f"UPDATE audit_heads SET seq = :n WHERE tenant_id = '{FOREIGN}'",
    "update all": "UPDATE audit_heads SET seq = :n",
    "give away": f"UPDATE audit_heads SET tenant_id = '{FOREIGN}2', seq = :n",
    "delete": f"DELETE FROM audit_heads WHERE tenant_id = '{FOREIGN}' AND seq < :n + 1000",
    "delete all": "DELETE FROM audit_heads WHERE seq < :n + 1000",
    "delete in a query": "WITH gone AS (DELETE FROM audit_heads RETURNING *) SELECT count(*) + :n - :n FROM gone",
    "merge": f"MERGE INTO audit_heads USING (SELECT '{FOREIGN}' AS t) s ON tenant_id = t "
    "WHEN MATCHED THEN UPDATE SET seq = :n WHEN NOT MATCHED THEN INSERT VALUES (t, :n, '')",
    "lock": "SELECT seq FROM audit_heads WHERE seq >= :n - 1000 FOR UPDATE",
    "truncate": "TRUNCATE audit_heads",
    "switch off": "ALTER TABLE audit_heads DISABLE ROW LEVEL SECURITY",
    "become": "SET LOCAL row_security = off",
}


async def fresh(owner: Database) -> None:
    async with owner.operator_transaction() as session:
        await session.execute(text("DELETE FROM audit_heads"))
        rows = [{"t": "acme", "n": 1}, {"t": FOREIGN, "n": 2}]
        await session.execute(text("INSERT INTO audit_heads VALUES (:t, :n, '')"), rows)


async def foreign_rows(owner: Database) -> Sequence[tuple[str, int]]:
    async with owner.operator_reading() as session:
        rows = await session.execute(select(AuditHead.tenant_id, AuditHead.seq).where(AuditHead.tenant_id != "acme"))
        return [(tenant, seq) for tenant, seq in rows]


# What only the owner of the tables may do, and may do.
OF_THE_OWNER = {"truncate", "switch off"}


@settings(max_examples=examples(40))
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(HOW)), st.integers(3, 900)), min_size=1, max_size=6))
@pytest.mark.parametrize("login", ["app", "owner"])
async def test_no_statement_of_a_tenant_sees_or_changes_anothers_rows(
    addresses: Addresses, login: str, steps: list[tuple[str, int]]
) -> None:
    async with AsyncExitStack() as stack:
        owner = Database(addresses.owner_url)
        db = Database(addresses.app_url) if login == "app" else owner
        stack.push_async_callback(owner.close)
        stack.push_async_callback(db.close)
        await fresh(owner)
        for how, number in steps:
            if login == "owner" and how in OF_THE_OWNER:
                continue
            with suppress(DBAPIError):
                async with db.transaction("acme") as session:
                    result = await session.execute(text(HOW[how]), {"n": number} if ":n" in HOW[how] else {})
                    assert how != "lock" or len(result.all()) <= 1
                    assert all(row.tenant_id == "acme" for row in await session.scalars(select(AuditHead)))
            assert await foreign_rows(owner) == [(FOREIGN, 2)]


@pytest.mark.parametrize("login", ["app_url", "owner_url"])
async def test_who_says_no_tenant_sees_and_writes_nothing(owner: Database, addresses: Addresses, login: str) -> None:
    await fresh(owner)
    db = Database(getattr(addresses, login))
    async with db.writer.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM audit_heads")) == 0
        with pytest.raises(DBAPIError, match="row-level security"):
            await connection.execute(text("INSERT INTO audit_heads VALUES ('acme2', 1, '')"))
    await db.close()


@pytest.fixture(params=["direct", "pooled"])
async def db(request: pytest.FixtureRequest, addresses: Addresses, pooler: PgBouncer) -> AsyncIterator[Database]:
    """One connection of the app's to the server, or to a pooler that has one."""
    pooled = request.param == "pooled"
    url = pooler.url(addresses.name) if pooled else addresses.app_url
    db = Database(url, pool=ServerPool(size=1, pooled=pooled))
    yield db
    await db.close()


async def seen(db: Database) -> list[str]:
    """By one who says no tenant, then by one tenant, then by an operator."""
    async with db.writer.connect() as connection:
        nobody = await connection.scalars(select(AuditHead.tenant_id))
        found = [",".join(nobody)]
    for tenant in ("acme", EVERY_TENANT):
        async with db.reading(tenant) as session:
            found.append(",".join(await session.scalars(select(AuditHead.tenant_id).order_by(AuditHead.tenant_id))))
    return found


class Stop(Exception):
    pass


async def commit(db: Database) -> None:
    async with db.transaction(FOREIGN) as session:
        await session.execute(text("UPDATE audit_heads SET seq = seq"))


async def fail_before_commit(db: Database) -> None:
    async with db.transaction(FOREIGN) as session:
        await session.execute(text("SELECT 1"))
        raise Stop


async def break_a_statement(db: Database) -> None:
    async with db.transaction(FOREIGN) as session:
        await session.execute(text("SELECT 1 / 0"))


async def fail_to_begin(db: Database) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "app.storage.db.beginning", lambda *_: f" SELECT set_config('{TENANT}', '{FOREIGN}', true), 1 / 0;"
        )
        await commit(db)


async def be_cancelled_in_a_statement(db: Database) -> None:
    async with asyncio.timeout(0.2), db.transaction(FOREIGN) as session:
        await session.execute(text("SELECT pg_sleep(60)"))


@pytest.mark.parametrize(
    "ends", [commit, fail_before_commit, break_a_statement, fail_to_begin, be_cancelled_in_a_statement]
)
async def test_a_pooled_connection_takes_no_tenant_to_the_next(owner: Database, db: Database, ends) -> None:
    await fresh(owner)
    for _ in range(2):
        with suppress(Stop, DBAPIError, TimeoutError):
            await ends(db)
        assert await seen(db) == ["", "acme", f"acme,{FOREIGN}"]


async def test_one_who_is_cancelled_as_its_transaction_begins_leaves_no_open_one(
    owner: Database, addresses: Addresses, postgres_server: PostgresServer
) -> None:
    await fresh(owner)
    with Wire(postgres_server.port) as wire:
        behind = Database(
            f"postgresql+asyncpg://trellis_api@127.0.0.1:{wire.port}/{addresses.name}", pool=ServerPool(1)
        )
        await commit(behind)
        wire.stall()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), behind.transaction(FOREIGN) as session:
                await session.execute(text("SELECT 1"))
        wire.heal()
        assert await seen(behind) == ["", "acme", f"acme,{FOREIGN}"]
        await behind.close()


async def test_a_tenants_name_is_data_wherever_it_says_it(owner: Database, db: Database) -> None:
    await fresh(owner)
    for name in (
        f"acme' IN ('{FOREIGN}",
        "x', true); SELECT set_config('trellis.tenant', '*",
        f"acme'||'{FOREIGN}",
        "\\'",
    ):
        async with db.reading(name) as session:
            assert (await session.scalars(select(AuditHead.tenant_id))).all() == []
            assert await session.scalar(text("SELECT current_setting('trellis.tenant')")) == name


async def test_tables_without_a_tenant_are_the_ones_that_need_none(owner: Database) -> None:
    without = text("""
        SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = to_regnamespace('public')
        AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'tenant_id')
    """)
    async with owner.operator_reading() as session:
        assert set(await session.scalars(without)) == WITHOUT_TENANT
