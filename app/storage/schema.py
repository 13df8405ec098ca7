"""The database's schema: bring it up, take it down, and refuse to run on another one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import ConfigError, Unavailable
from app.storage.db import Database

Result = TypeVar("Result")

HEAD = "head"
_INI = Path(__file__).with_name("alembic.ini")


def _config(connection: Connection | None = None) -> Config:
    config = Config(_INI)
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The revision that this program needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise ConfigError("This installation has no database revisions: install Trellis again.")
    return head


async def upgrade(engine: AsyncEngine, revision: str = HEAD) -> None:
    """Brings the schema up to a revision; a second run changes nothing.

    Raises ConfigError where the database has a revision that this program does not know, or is none.
    """
    await _run(engine, partial(_upgrade, revision=revision))


async def downgrade(engine: AsyncEngine, revision: str) -> None:
    """Takes the schema down to a revision ("base": an empty database)."""
    await _run(engine, partial(_downgrade, revision=revision))


def _upgrade(connection: Connection, revision: str) -> None:
    _refuse_unknown(_current(connection))
    command.upgrade(_config(connection), revision)


def _downgrade(connection: Connection, revision: str) -> None:
    _refuse_unknown(_current(connection))
    command.downgrade(_config(connection), revision)


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_unknown(current: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError(
            f"The database has schema {current}, which this version of Trellis does not know: "
            "it was written by a newer one. Use that version, or another data folder (TRELLIS_HOME)."
        )


async def current_revision(db: Database) -> str | None:
    """The schema's revision; None for an empty database. Raises ConfigError where it is no database of ours."""
    return await _run(db.reader, _current)


async def check(db: Database) -> None:
    """Raises ConfigError unless the schema is the one that this program needs."""
    current, head = await current_revision(db), head_revision()
    if current == head:
        return
    _refuse_unknown(current)
    raise ConfigError(f"The database has schema {current or 'none'}; this program needs {head}: run `trellis migrate`.")


async def _run(engine: AsyncEngine, work: Callable[[Connection], Result]) -> Result:
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    except DBAPIError as error:
        raise _explained(engine, error) from error


def _explained(engine: AsyncEngine, error: DBAPIError) -> ConfigError | Unavailable:
    where = engine.url.render_as_string(hide_password=True)
    text = str(error.orig)
    if "file is not a database" in text:
        return ConfigError(
            f"{engine.url.database} is not a database: move it away, or set TRELLIS_HOME to another folder."
        )
    if "unable to open database file" in text or "readonly database" in text:
        return ConfigError(
            f"{engine.url.database} cannot be written: check the folder's owner and rights (TRELLIS_HOME)."
        )
    if "disk is full" in text:
        return ConfigError(f"The disk of {engine.url.database} is full: free some space.")
    return Unavailable(f"The database {where} does not answer: {text.splitlines()[0][:200]}.", retry_after=5)
