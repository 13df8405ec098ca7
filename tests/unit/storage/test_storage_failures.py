"""Which errors of a database say that it is away or full."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import Unavailable
from app.storage.db import Database
from app.storage.failures import StorageFull, failure


class FromServer(Exception):
    """An error as the PostgreSQL driver's adapter has it."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


async def test_a_file_that_may_not_grow_is_said_to_be_full_and_keeps_what_it_has(tmp_path: Path) -> None:
    db = Database(f"sqlite+aiosqlite:///{tmp_path / 'small.db'}")
    async with db.operator_transaction() as session:
        await session.execute(text("CREATE TABLE kept (body)"))
    async with db.writer.connect() as connection:
        await connection.execute(text("PRAGMA max_page_count = 10"))
    with pytest.raises(DBAPIError) as full:
        async with db.operator_transaction() as session:
            await session.execute(text("INSERT INTO kept VALUES (1)"))
            await session.execute(text("INSERT INTO kept VALUES (randomblob(100000))"))
    stated = failure(full.value)
    assert isinstance(stated, StorageFull)
    assert (stated.status, stated.code) == (507, "storage-full")
    async with db.operator_reading() as session:
        assert await session.scalar(text("SELECT count(*) FROM kept")) == 0
    await db.close()


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53100", StorageFull),
        ("53300", Unavailable),
        ("08006", Unavailable),
        ("57P01", Unavailable),
        ("57014", Unavailable),
        ("25006", Unavailable),
        ("40P01", Unavailable),
    ],
)
def test_what_a_server_says_of_itself_passes(sqlstate: str, kind: type) -> None:
    assert type(failure(DBAPIError("SELECT 1", None, FromServer(sqlstate)))) is kind


@pytest.mark.parametrize("sqlstate", ["22P02", "42P01", "42501", "23505"])
def test_what_is_wrong_with_a_statement_does_not_pass(sqlstate: str) -> None:
    assert failure(DBAPIError("SELECT 1", None, FromServer(sqlstate))) is None


def test_a_connection_that_was_lost_and_a_pool_that_is_empty_pass() -> None:
    lost = DBAPIError("SELECT 1", None, FromServer(""), connection_invalidated=True)
    assert isinstance(failure(lost), Unavailable)
    assert isinstance(failure(PoolTimeout("30 s")), Unavailable)
    assert isinstance(failure(OperationalError("SELECT 1", None, sqlite3.OperationalError("locked"))), Unavailable)


def test_errors_of_a_request_are_none_of_the_database() -> None:
    assert failure(IntegrityError("INSERT", None, sqlite3.IntegrityError("twice"))) is None
    assert failure(ValueError("no")) is None
