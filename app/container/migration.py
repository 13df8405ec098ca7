"""`trellis migrate`: moves the schemas, ours and the job engine's, and says what it does or would do."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from app.errors import ConfigError
from app.jobs.engine import Jobs
from app.settings import Settings
from app.storage import roles
from app.storage.db import Database
from app.storage.migrating import Migration, Told
from app.storage.migrations.locks import locks
from app.storage.revisions import HEAD, Step, sql
from app.storage.schema import current_revision
from app.telemetry.setup import build_metrics


@dataclass(frozen=True, slots=True)
class Move:
    """Where to: a revision, `head` or `base`. `down`: it lies below what the database has."""

    to: str = HEAD
    down: bool = False


UP = Move()


async def migrate_database(settings: Settings, move: Move = UP, told: Told = lambda _sentence: None) -> str:
    """Moves our schema, brings the job engine's up where ours goes up to the end, and lets the app's logins use them.

    Returns the revision ("none": an empty database). Raises as `Migration.run`.
    """
    async with _owner(settings) as db:
        await Migration(db.writer, told=told).run(move.to, down=move.down)
        if move == UP:
            jobs = Jobs(settings.owner_database_url, metrics=build_metrics(version("trellis"), settings.phase))
            await jobs.migrate()
        await roles.grant(db.writer, *settings.database_logins)
        return await current_revision(db) or "none"


async def plan_migration(settings: Settings, move: Move = UP) -> Iterator[str]:
    """What `migrate_database` would do: for each revision the locks that it takes and its SQL, as lines."""
    async with _owner(settings) as db:
        steps = await Migration(db.writer).plan(move.to, down=move.down)
        return (line for step in steps for line in _described(step, db.dialect))


@asynccontextmanager
async def _owner(settings: Settings) -> AsyncIterator[Database]:
    if settings.database_pooled and settings.owner_database_url == settings.sqlalchemy_url:
        raise ConfigError(
            "A migration keeps locks and settings for a session, which PgBouncer does not: set "
            "TRELLIS_DATABASE_OWNER_URL (or TRELLIS_DATABASE_DIRECT_URL) to the database's own address."
        )
    db = Database(settings.owner_database_url)
    try:
        yield db
    finally:
        await db.close()


def _described(step: Step, dialect: str) -> Iterator[str]:
    written = sql(step, dialect)
    yield f"{step}: {'to be applied' if step.up else 'to be taken back'}"
    yield from _locked(written, dialect)
    if written is None:
        yield "  The statements depend on the tables as they are."
        return
    yield from (f"    {line}" for line in written.splitlines() if line.strip())


def _locked(written: str | None, dialect: str) -> Iterator[str]:
    if dialect == "sqlite":
        yield "  Writers of this file wait until the revision is done; readers do not."
        return
    found = locks(written or "")
    if not found:
        yield "  No lock on a table that is there already."
    for lock in found:
        yield f"  {lock.table}: {lock.mode} (keeps {lock.keeps})"
