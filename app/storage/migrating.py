"""Migrations of a database in use: one migrator at a time, one transaction a revision, short waits for locks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import ConfigError, Unavailable
from app.storage.failures import NOT_ALLOWED, first_line, sqlstate
from app.storage.programs import accepts
from app.storage.revisions import BASE, HEAD, Revisions, Step, apply

Told = Callable[[str], None]
Result = TypeVar("Result")

ONE_MIGRATOR = int.from_bytes(b"Trellis")
"""The key of the advisory lock on PostgreSQL: a session's, so that it ends with a migrator that is killed."""
# PostgreSQL: lock_not_available, deadlock_detected.
_NOT_GOT = frozenset({"55P03", "40P01", "SQLITE_BUSY"})


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: the pause after a lock that was not got, its longest (it doubles), and all tries of one thing."""

    first_s: float = 0.2
    longest_s: float = 5.0
    all_s: float = 180.0


class Migration:
    """Moves a database from revision to revision. A process runs one at a time: Alembic's environment is global.

    On PostgreSQL a statement waits for a lock for less than the time after which the server would look for a deadlock,
    so that no request is ended for a migration's sake, and none waits long behind it; then the revision is rolled back
    and tried again. A revision is applied whole or not at all, except one that builds indexes while rows are written
    or changes one table at a time: that one may be run again.

    Args:
        told: hears a sentence for each step and each wait.
    """

    def __init__(
        self, engine: AsyncEngine, *, patience: Patience | None = None, told: Told = lambda _sentence: None
    ) -> None:
        self._engine = engine
        self._patience = patience or Patience()
        self._told = told
        self._revisions = Revisions()

    async def plan(self, target: str = HEAD, *, down: bool = False) -> list[Step]:
        """What `run` would do. Raises as it does."""
        with clear(self._engine):
            async with self._engine.connect() as connection:
                return await _asked(connection, partial(self._left, target=target, down=down))

    async def run(self, target: str = HEAD, *, down: bool = False) -> list[Step]:
        """What was done, empty where the schema was there already.

        Raises:
            ConfigError: the database has a revision that this program does not know, or is none; there is no such
                revision; or it lies the other way than `down` says.
            Unavailable: a lock was not got in all that time, or the database does not answer.
        """
        done: list[Step] = []
        with clear(self._engine):
            async with self._session() as connection:
                left = await _asked(connection, partial(self._left, target=target, down=down))
                goal = left[-1].after or BASE if left else target
                while left:
                    await self._step(connection, left[0])
                    done.append(left[0])
                    left = await _asked(connection, partial(self._left, target=goal, down=down))
        return done

    def _left(self, connection: Connection, target: str, down: bool) -> list[Step]:
        """What is to be done from the schema as it is now."""
        current, known = revision_of(connection), self._revisions
        ahead = current is not None and current not in known.names
        if ahead and target == HEAD and not down and accepts(connection, known.head):
            # An old program that starts again beside the new one, which was here.
            return []
        steps = known.path(current, known.named(target, current))
        if steps and steps[0].up == down:
            way = "below" if down else "above"
            raise ConfigError(
                f"The database has schema {current or 'none'}, which lies {way} {target}: "
                + ("leave --down away to go up." if down else "say --down to go down.")
            )
        return steps

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncConnection]:
        """A connection that is the only one to migrate, and that is thrown away with all that was set on it."""
        async with self._engine.connect() as connection:
            try:
                await self._be_alone(connection)
                yield connection
            finally:
                await connection.invalidate()

    async def _be_alone(self, connection: AsyncConnection) -> None:
        if connection.dialect.name == "sqlite":
            # Where a table is copied, the old one is dropped: with foreign keys on, rows that point to it would go too.
            await connection.run_sync(_without_foreign_keys)
        elif not await self._tries(partial(_got_alone, connection), "Another migration is running on this database"):
            raise Unavailable("Another migration is still running on this database: try again later.", retry_after=60)

    async def _step(self, connection: AsyncConnection, step: Step) -> None:
        began = time.monotonic()
        if not await self._tries(partial(_applied, connection, step), f"{step}: a lock was not got"):
            raise Unavailable(
                f"Revision {step} waited {self._patience.all_s:g} s for a lock that others hold, and was given up. "
                f"The schema is {step.before or 'none'}: run the command again when less is going on (PostgreSQL's "
                "view pg_stat_activity shows who holds locks for long).",
                retry_after=60,
            )
        self._told(f"{step}: {'applied' if step.up else 'taken back'} in {time.monotonic() - began:.1f} s.")

    async def _tries(self, done: Callable[[], Awaitable[bool]], why: str) -> bool:
        """Whether it was done in time."""
        patience = self._patience
        until, pause = time.monotonic() + patience.all_s, patience.first_s
        while not await done():
            if time.monotonic() + pause > until:
                return False
            self._told(f"{why}; next try in {pause:g} s.")
            await asyncio.sleep(pause)
            pause = min(pause * 2, patience.longest_s)
        return True


async def _got_alone(connection: AsyncConnection) -> bool:
    # Asked again and again, not waited for: a transaction that waits is one that a concurrent build waits for.
    got = await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ONE_MIGRATOR})
    await connection.commit()
    return bool(got)


async def _asked(connection: AsyncConnection, question: Callable[[Connection], Result]) -> Result:
    found = await connection.run_sync(question)
    await connection.rollback()
    return found


async def _applied(connection: AsyncConnection, step: Step) -> bool:
    """False where a lock was not got; then nothing of the revision's transaction is left."""
    try:
        await connection.run_sync(_apply, step)
    except PendingRollbackError as error:
        raise Unavailable(
            f"The connection was lost while {step} was under way: run the command again.", retry_after=5
        ) from error
    except DBAPIError as error:
        await connection.rollback()
        if sqlstate(error) in _NOT_GOT:
            return False
        if isinstance(error, IntegrityError):
            raise ConfigError(
                f"Stored rows break a rule that revision {step} brings: {first_line(error.orig)}. The schema is "
                f"{step.before or 'none'}: mend the rows, then run the command again."
            ) from error
        raise
    return True


def _apply(connection: Connection, step: Step) -> None:
    if connection.dialect.name != "sqlite":
        apply(connection, step)
        return
    with connection.begin():
        # Only now is another process kept from migrating the file.
        if revision_of(connection) == step.before:
            apply(connection, step)
            _refuse_orphans(connection)


def revision_of(connection: Connection) -> str | None:
    """The schema's; None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def _without_foreign_keys(connection: Connection) -> None:
    # Not within a transaction, which SQLAlchemy would begin: there the pragma does nothing.
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA foreign_keys=OFF")
    cursor.close()


def _refuse_orphans(connection: Connection) -> None:
    orphan = connection.execute(text("PRAGMA foreign_key_check")).first()
    if orphan is not None:
        raise ConfigError(
            f"A row of {orphan.table} points to one of {orphan.parent} that is not there, so the schema was left as it "
            "was: take that row away first (PRAGMA foreign_key_check names it)."
        )


@contextmanager
def clear(engine: AsyncEngine) -> Iterator[None]:
    """Says what a person can mend where the database is away, closed to us or none."""
    try:
        yield
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
    if sqlstate(error) == NOT_ALLOWED:
        return ConfigError(
            f"The login {engine.url.username} may not do that: set TRELLIS_DATABASE_OWNER_URL to the owner's address."
        )
    return Unavailable(f"The database {where} does not answer: {first_line(error.orig)}.", retry_after=5)
