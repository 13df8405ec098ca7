"""A write that a promotion refused, told from any other error."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.storage.db import Database
from app.storage.moved import MOVED, Moved


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    db = Database(f"sqlite+aiosqlite:///{tmp_path / 'some.db'}")
    async with db.operator_transaction() as session:
        await session.execute(text("CREATE TABLE kept (body TEXT UNIQUE)"))
        await session.execute(text(f'CREATE TABLE "{MOVED}" (body TEXT UNIQUE)'))
    yield db
    await db.close()


async def write(db: Database, table: str) -> None:
    async with db.operator_transaction() as session:
        await session.execute(text(f'INSERT INTO "{table}" VALUES (:body)'), {"body": MOVED})


async def test_a_write_that_the_gate_refuses_is_said_to_have_moved(db: Database) -> None:
    async with db.operator_transaction() as session:
        shut = f"CREATE TRIGGER shut BEFORE INSERT ON kept BEGIN SELECT RAISE(ABORT, '{MOVED}'); END"
        await session.execute(text(shut))
    with pytest.raises(Moved):
        await write(db, "kept")


async def test_an_error_that_only_holds_the_words_is_what_it_is(db: Database) -> None:
    await write(db, MOVED)
    with pytest.raises(IntegrityError, match=MOVED):
        await write(db, MOVED)
