"""Transactions, types and tenant-scoped repositories on the embedded database."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import String, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.errors import ConfigError, InvalidInput, NotFound
from app.ids import new_id
from app.storage.base import Base, TenantRow, micros
from app.storage.db import Database
from app.storage.repository import TenantRepository
from tests.conftest import StillClock


class Own(DeclarativeBase):
    """A metadata of its own: the application's tables stay what the revisions make."""

    type_annotation_map: ClassVar[dict[Any, Any]] = Base.type_annotation_map


class Thing(TenantRow, Own):
    __tablename__ = "things"
    name: Mapped[str] = mapped_column(String(50))


@pytest.fixture(autouse=True)
async def table(db: Database) -> None:
    async with db.writer.begin() as connection:
        await connection.run_sync(Own.metadata.create_all)


class Things(TenantRepository[Thing]):
    model, noun = Thing, "thing"


def thing(clock: StillClock, name: str = "a") -> Thing:
    return Thing(id=new_id("thing"), tenant_id="", created_at=clock(), name=name)


async def stored(db: Database, clock: StillClock, tenant: str, *names: str) -> list[str]:
    async with db.operator_transaction() as session:
        return [Things(session, tenant).add(thing(clock, name)).id for name in names]


async def test_a_row_carries_the_tenant_of_its_repository_whatever_it_said(db: Database, clock: StillClock) -> None:
    row = thing(clock)
    row.tenant_id = "rival"
    async with db.operator_transaction() as session:
        Things(session, "acme").add(row)
    async with db.operator_reading() as session:
        assert (await Things(session, "acme").get(row.id)).tenant_id == "acme"


async def test_another_tenants_row_is_not_found(db: Database, clock: StillClock) -> None:
    [mine] = await stored(db, clock, "acme", "a")
    async with db.operator_reading() as session:
        assert await Things(session, "rival").find(mine) is None
        with pytest.raises(NotFound, match="There is no thing"):
            await Things(session, "rival").get(mine)
        assert await Things(session, "rival").all() == []
        assert (await Things(session, "rival").page()).items == []


async def test_pages_hold_every_row_once_newest_first(db: Database, clock: StillClock) -> None:
    ids = await stored(db, clock, "acme", *map(str, range(7)))
    seen: list[str] = []
    cursor: str | None = None
    async with db.operator_reading() as session:
        while True:
            page = await Things(session, "acme").page(cursor=cursor, limit=3)
            seen += [row.id for row in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert seen == ids[::-1]


@pytest.mark.parametrize("limit", [0, -1, 201])
async def test_a_page_size_out_of_bounds_is_refused(db: Database, limit: int) -> None:
    async with db.operator_reading() as session:
        with pytest.raises(InvalidInput, match="'limit'"):
            await Things(session, "acme").page(limit=limit)


@pytest.mark.parametrize("cursor", ["'; drop table", "a" * 65, "ü", ""])
async def test_a_cursor_of_another_making_is_refused(db: Database, cursor: str) -> None:
    async with db.operator_reading() as session:
        with pytest.raises(InvalidInput, match="'cursor'"):
            await Things(session, "acme").page(cursor=cursor)


async def test_an_exception_rolls_everything_back(db: Database, clock: StillClock) -> None:
    with pytest.raises(RuntimeError):
        async with db.operator_transaction() as session:
            Things(session, "acme").add(thing(clock))
            await session.flush()
            raise RuntimeError
    async with db.operator_reading() as session:
        assert (await session.scalars(select(Thing))).all() == []


async def test_what_is_written_while_reading_is_never_kept(db: Database, clock: StillClock) -> None:
    async with db.operator_reading() as session:
        session.add(thing(clock))
        await session.flush()
    async with db.operator_reading() as session:
        assert (await session.scalars(select(Thing))).all() == []


async def test_writers_that_read_first_wait_for_each_other(db: Database, clock: StillClock) -> None:
    async def grow() -> None:
        async with db.operator_transaction() as session:
            count = len(await Things(session, "acme").all())
            await asyncio.sleep(0.001)
            Things(session, "acme").add(thing(clock, str(count)))

    await asyncio.gather(*(grow() for _ in range(20)))
    async with db.operator_reading() as session:
        assert sorted(int(row.name) for row in await Things(session, "acme").all()) == list(range(20))


async def test_a_time_comes_back_in_utc_and_a_naive_one_is_refused(db: Database, clock: StillClock) -> None:
    row = thing(clock)
    row.created_at = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    async with db.operator_transaction() as session:
        Things(session, "acme").add(row)
    async with db.operator_reading() as session:
        read = (await Things(session, "acme").get(row.id)).created_at
    assert read == datetime(2026, 1, 1, 7, tzinfo=UTC)
    assert read.tzinfo is UTC
    naive = thing(clock)
    naive.created_at = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(StatementError, match="naive"):
        async with db.operator_transaction() as session:
            Things(session, "acme").add(naive)


async def test_an_error_does_not_print_what_was_written(db: Database, clock: StillClock) -> None:
    [taken] = await stored(db, clock, "acme", "a")
    row = thing(clock, "a very private name")
    row.id = taken
    with pytest.raises(Exception, match="UNIQUE") as refused:
        async with db.operator_transaction() as session:
            Things(session, "acme").add(row)
    assert "private" not in str(refused.value)


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="mysql"):
        Database("mysql+aiomysql://host/db")


@given(st.floats(min_value=0, max_value=1e9, allow_nan=False))
def test_money_is_whole_micros(usd: float) -> None:
    assert abs((micros(usd) or 0) / 1e6 - usd) <= 1e-6
    assert micros(None) is None


async def test_work_for_no_tenant_is_refused_before_it_begins(db: Database) -> None:
    for opened in (db.transaction(""), db.reading(""), db.transaction_of([]), db.transaction_of(["acme", ""])):
        with pytest.raises(ValueError, match="without a tenant"):
            async with opened:
                pytest.fail("it began")


async def test_a_row_is_taken_as_it_is_now_and_one_of_another_tenant_is_not_found(
    db: Database, clock: StillClock
) -> None:
    [row_id] = await stored(db, clock, "acme", "a")
    async with db.transaction("acme") as session:
        (await Things(session, "acme").take(row_id)).name = "b"
        with pytest.raises(NotFound, match="no thing"):
            await Things(session, "rival").take(row_id)
    async with db.reading("acme") as session:
        assert (await Things(session, "acme").get(row_id)).name == "b"
