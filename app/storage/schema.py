"""The database's schema: bring it up, take it down, and refuse to run on one that this program cannot use."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import ConfigError
from app.storage.db import Database
from app.storage.migrating import Migration, clear, revision_of
from app.storage.programs import accepts
from app.storage.revisions import BASE, HEAD, Revisions

Result = TypeVar("Result")


def head_revision() -> str:
    """The revision that this program is written for."""
    return Revisions().head


async def upgrade(engine: AsyncEngine, revision: str = HEAD) -> None:
    """Brings the schema up to a revision; a second run changes nothing. Raises as `Migration.run`."""
    await Migration(engine).run(revision)


async def downgrade(engine: AsyncEngine, revision: str = BASE) -> None:
    """Takes the schema down to a revision ("base": an empty database)."""
    await Migration(engine).run(revision, down=True)


async def current_revision(db: Database) -> str | None:
    """The schema's revision; None for an empty database. Raises ConfigError where it is no database of ours."""
    return await _asked(db, revision_of)


async def check(db: Database) -> None:
    """Raises ConfigError unless this program runs on the schema.

    That is the one it is written for, or one of a newer program that says so: old and new programs run side by side
    while a fleet is replaced.
    """
    revisions = Revisions()
    current = await current_revision(db)
    if current == revisions.head:
        return
    if current is None or current in revisions.names:
        raise ConfigError(
            f"The database has schema {current or 'none'}; this program needs {revisions.head}: run `trellis migrate`."
        )
    if not await _asked(db, partial(accepts, program=revisions.head)):
        raise ConfigError(
            f"The database has schema {current} of a newer Trellis, and this version (schema {revisions.head}) does "
            "not run on it: start the newer version, or another data folder (TRELLIS_HOME)."
        )


async def _asked(db: Database, question: Callable[[Connection], Result]) -> Result:
    # A replica may not have heard of the newest revision yet.
    engine = db.reader if db.dialect == "sqlite" else db.writer
    with clear(engine):
        async with engine.connect() as connection:
            return await connection.run_sync(question)
