"""What a promotion asks of a database, of both: the change log, the gate, transactions of its own."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from app.errors import ConfigError, Conflict, InvalidInput, Unavailable
from app.promotion.postgres_side import PostgresSide
from app.promotion.side import Gate, Row, Side
from app.promotion.sqlite_side import SqliteSide
from app.promotion.tables import MovedTable
from app.promotion.values import digest
from app.storage.moved import MOVED
from tests.support.examples import examples
from tests.support.promotion import METADATA, TABLES, connect, new_file

PARENTS, CHILDREN = TABLES[:2]


@dataclass
class Database:
    """A side, and a way to write on it as the app does."""

    side: Side
    address: Any
    place: Any
    """What the side was made of."""

    async def write(self, statement: str) -> None:
        if isinstance(self.address, Path):
            connection = connect(self.address)
            connection.execute(statement)
            connection.close()
        else:
            app = await asyncpg.connect(self.address)
            await app.execute(statement)
            await app.close()


def postgres(url: str) -> Database:
    plain = url.replace("+asyncpg", "")
    engine = create_engine(url.replace("+asyncpg", "+psycopg"))
    METADATA.create_all(engine)
    engine.dispose()
    return Database(PostgresSide(url, TABLES[:2]), plain, url)


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        path = new_file(tmp_path / "side.db")
        found = Database(SqliteSide(path, TABLES[:2]), path, path)
    else:
        found = postgres(request.getfixturevalue("fresh_postgres_url"))
    await found.write("INSERT INTO parents (id, tenant_id, name) VALUES ('a', 'acme', 'A'), ('b', 'acme', 'B')")
    await found.write("INSERT INTO children (parent_id, number) VALUES ('a', 1), ('a', 2)")
    yield found
    await found.side.close()


async def logged(side: Side) -> dict[str, list[Any]]:
    async with side.snapshot() as snapshot:
        found = await snapshot.changes()
    return {name: sorted(keys) for name, keys in found.keys.items()}


async def test_the_log_names_every_row_that_was_written(database: Database) -> None:
    side = database.side
    await side.install(closed=False)
    await database.write("UPDATE parents SET name = 'C' WHERE id = 'b'")
    await database.write("UPDATE parents SET id = 'd' WHERE id = 'b'")
    await database.write("DELETE FROM parents WHERE id = 'a'")
    assert await logged(side) == {"parents": [("a",), ("b",), ("d",)], "children": [("a", 1), ("a", 2)]}


async def test_only_what_a_snapshot_saw_is_forgotten(database: Database) -> None:
    side = database.side
    await side.install(closed=False)
    await database.write("UPDATE parents SET name = 'C' WHERE id = 'b'")
    async with side.snapshot() as snapshot:
        seen = await snapshot.changes()
        await database.write("UPDATE parents SET name = 'D' WHERE id = 'a'")
        assert await snapshot.changes() == seen
        await side.forget(seen)
    assert await logged(side) == {"parents": [("a",)]}


async def test_its_own_transactions_pass_the_gate_and_are_not_logged(database: Database) -> None:
    side = database.side
    await side.install(closed=True)
    with pytest.raises((sqlite3.Error, asyncpg.PostgresError), match=MOVED):
        await database.write("DELETE FROM children")
    async with side.writing() as writing:
        await writing.remove(CHILDREN, [("a", 1)])
        await writing.note("cursor", {"at": 1})
    assert (await side.state())["cursor"] == {"at": 1}
    async with side.snapshot() as snapshot:
        assert [row[:2] for row in await snapshot.page(CHILDREN, None, 10)] == [("a", 2)]
    assert await side.pending() == 0
    assert await side.gate() is Gate.CLOSED


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    side = database.side
    await side.install(closed=True)

    async def fail() -> None:
        async with side.writing() as writing:
            await writing.remove(CHILDREN, [("a", 1)])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with side.snapshot() as snapshot:
        assert await snapshot.count(CHILDREN) == 2
    with pytest.raises((sqlite3.Error, asyncpg.PostgresError), match=MOVED):
        await database.write("DELETE FROM children")


async def test_a_lease_closes_for_its_time_and_may_be_kept_before_it_is_over(database: Database) -> None:
    side = database.side
    await side.install(closed=False)
    await side.close_writes(30)
    assert await side.gate() is Gate.LEASED
    with pytest.raises((sqlite3.Error, asyncpg.PostgresError), match=MOVED):
        await database.write("DELETE FROM children")
    assert await side.keep_closed()
    assert await side.gate() is Gate.CLOSED
    await side.open_writes()
    await side.close_writes(0.05)
    await asyncio.sleep(0.1)
    await database.write("DELETE FROM children")
    assert not await side.keep_closed()
    assert await side.gate() is Gate.OPEN


async def test_a_gate_that_somebody_opened_is_not_kept_closed(database: Database) -> None:
    side = database.side
    await side.install(closed=False)
    await side.close_writes(30)
    await side.open_writes()
    assert not await side.keep_closed()
    await database.write("DELETE FROM children")


async def test_one_run_at_a_time_has_a_side(database: Database) -> None:
    same = type(database.side)(database.place, TABLES[:2])
    async with database.side.alone():
        with pytest.raises(Conflict, match="Another promotion"):
            async with same.alone():
                pass
    async with same.alone():
        pass


async def test_unique_values_change_places(database: Database) -> None:
    side = database.side
    await side.install(closed=True)
    async with side.snapshot() as snapshot:
        first, second = sorted(await snapshot.rows(PARENTS, [("a",), ("b",)]))
    swapped = [(*first[:2], "B", *first[3:]), (*second[:2], "A", *second[3:])]
    async with side.writing() as writing:
        await writing.park(PARENTS, [("a",), ("b",)])
        await writing.put(PARENTS, swapped)
    async with side.snapshot() as snapshot:
        assert [row[2] for row in await snapshot.page(PARENTS, None, 10)] == ["B", "A"]


async def test_a_row_that_cannot_be_kept_is_named(database: Database) -> None:
    side = database.side
    await side.install(closed=True)
    row = ("c", "acme", "A", *[None] * (len(PARENTS.columns) - 3))
    with pytest.raises(InvalidInput, match="parents/c"):
        async with side.writing() as writing:
            await writing.put(PARENTS, [row])


async def test_all_that_was_installed_can_be_taken_away(database: Database) -> None:
    side = database.side
    await side.install(closed=True)
    await side.uninstall()
    await database.write("DELETE FROM children")
    assert not await side.installed()
    assert await side.state() == {}
    await side.install(closed=False)
    assert await side.pending() == 0


def text_without_nul() -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


def rows() -> st.SearchStrategy[Row]:
    numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | numbers | text_without_nul(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text_without_nul(), inner, max_size=3),
        max_leaves=8,
    )
    times = st.integers(0, 2**52).map(lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))
    return st.tuples(
        st.just("x"),
        st.just("acme"),
        st.none() | text_without_nul(),
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.floats(allow_nan=False),
        st.none() | st.booleans(),
        st.none() | values.map(json.dumps),
        st.none() | times,
        st.none() | st.dates(date(1, 1, 1)),
        st.none() | st.binary(max_size=20),
    )


async def kept(side: Side, table: MovedTable, row: Row) -> Row:
    """The row as it is read after it was written."""
    async with side.writing() as writing:
        await writing.put(table, [row])
    async with side.snapshot() as snapshot:
        (found,) = await snapshot.rows(table, [("x",)])
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, postgres_server: Any) -> tuple[Path, str]:
    url = postgres_server.new_database()
    postgres(url)
    return new_file(tmp_path_factory.mktemp("values") / "side.db"), url


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=rows())
@example(
    row=("x", "acme", None, None, -0.0, None, "[-0.0, 1e+16, 1.2345678901234568e+17, 0.1, 1e-07]", None, None, None)
)
@example(row=("x", "acme", None, None, None, None, '{"b": [9007199254740993, 1e+300], "a": null}', None, None, None))
def test_a_row_has_the_same_digest_wherever_it_has_been(both: tuple[Path, str], row: Row) -> None:
    async def there_and_back() -> set[int]:
        path, url = both
        sides: list[Side] = [SqliteSide(path, TABLES[:2]), PostgresSide(url, TABLES[:2]), SqliteSide(path, TABLES[:2])]
        found, digests = row, set()
        for side in sides:
            await side.install(closed=True)
            found = await kept(side, PARENTS, found)
            digests.add(digest(PARENTS, found))
            await side.close()
        return digests

    assert len(asyncio.run(there_and_back())) == 1


async def test_a_transaction_that_holds_a_table_keeps_the_gate_open(fresh_postgres_url: str) -> None:
    found = postgres(fresh_postgres_url)
    await found.side.install(closed=False)
    app = await asyncpg.connect(found.address)
    async with app.transaction():
        await app.execute("INSERT INTO parents (id, tenant_id) VALUES ('a', 'acme')")
        with pytest.raises(Unavailable, match="does not end"):
            await found.side.close_writes(30)
        assert await found.side.gate() is Gate.OPEN
    await app.execute("DELETE FROM parents")
    await app.close()
    await found.side.close()


async def test_a_transaction_older_than_the_gate_is_refused_too(fresh_postgres_url: str) -> None:
    found = postgres(fresh_postgres_url)
    await found.side.install(closed=False)
    app = await asyncpg.connect(found.address)
    with pytest.raises(asyncpg.PostgresError, match=MOVED):
        async with app.transaction(isolation="repeatable_read"):
            await app.execute("SELECT count(*) FROM parents")
            await found.side.close_writes(30)
            await app.execute("INSERT INTO parents (id, tenant_id) VALUES ('a', 'acme')")
    await app.close()
    await found.side.close()


async def test_a_transaction_that_began_within_the_lease_is_refused_once_it_is_for_good(
    fresh_postgres_url: str,
) -> None:
    found = postgres(fresh_postgres_url)
    await found.side.install(closed=False)
    app = await asyncpg.connect(found.address)
    await found.side.close_writes(30)
    with pytest.raises(asyncpg.PostgresError, match=MOVED):
        async with app.transaction(isolation="repeatable_read"):
            await app.execute("SELECT count(*) FROM parents")
            assert await found.side.keep_closed()
            await app.execute("DELETE FROM parents")
    await app.close()
    await found.side.close()


async def test_a_gate_whose_holder_dies_opens_by_itself(fresh_postgres_url: str) -> None:
    found = postgres(fresh_postgres_url)
    await found.side.install(closed=False)
    dying = PostgresSide(fresh_postgres_url, TABLES[:2])
    await dying.close_writes(30)
    assert await found.side.gate() is Gate.LEASED
    await dying.close()
    while await found.side.gate() is not Gate.OPEN:
        await asyncio.sleep(0.01)
    await found.write("DELETE FROM parents")
    await found.side.close()


async def test_a_transaction_that_waits_for_a_lock_of_ours_is_no_deadlock(fresh_postgres_url: str) -> None:
    found = postgres(fresh_postgres_url)
    await found.side.install(closed=False)
    app = await asyncpg.connect(found.address)
    transaction = app.transaction()
    await transaction.start()
    await app.execute("INSERT INTO children (parent_id, number) SELECT id, 5 FROM parents")
    closing = asyncio.create_task(found.side.close_writes(30))
    await asyncio.sleep(0.2)
    await app.execute("INSERT INTO parents (id, tenant_id) VALUES ('a', 'acme')")
    await transaction.commit()
    await closing
    assert await found.side.gate() is Gate.LEASED
    await app.close()
    await found.side.close()


async def test_a_number_that_is_committed_late_is_not_forgotten(fresh_postgres_url: str) -> None:
    found = postgres(fresh_postgres_url)
    await found.side.install(closed=False)
    app = await asyncpg.connect(found.address)
    transaction = app.transaction()
    await transaction.start()
    await app.execute("INSERT INTO parents (id, tenant_id) VALUES ('late', 'acme')")
    await found.write("INSERT INTO parents (id, tenant_id) VALUES ('later', 'acme')")
    async with found.side.snapshot() as snapshot:
        seen = await snapshot.changes()
    assert seen.keys == {"parents": [("later",)]}
    await transaction.commit()
    await found.side.forget(seen)
    assert await logged(found.side) == {"parents": [("late",)]}
    await app.close()
    await found.side.close()


async def test_a_login_that_owns_nothing_is_told_what_to_set(migrated_postgres: Any) -> None:
    side = PostgresSide(migrated_postgres.app_url, TABLES[:2])
    with pytest.raises(ConfigError, match="TRELLIS_DATABASE_OWNER_URL"):
        await side.install(closed=False)
    await side.close()


async def test_a_server_that_is_away_is_one_sentence() -> None:
    side = PostgresSide("postgresql+asyncpg://app:secret@127.0.0.1:1/x", TABLES[:2])
    with pytest.raises(Unavailable, match="does not answer") as caught:
        await side.revision()
    assert "secret" not in caught.value.detail
