"""A PostgreSQL database as a side of a promotion: asyncpg with the tables' owner, past any pooler."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import asyncpg
import orjson
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from app.errors import ConfigError, InvalidInput, TrellisError, Unavailable
from app.jobs.store import SCHEMA
from app.jobs.tables import HAND_OVER, JOBS, RUNNING
from app.principal import EVERY_TENANT
from app.promotion import postgres_triggers as triggers
from app.promotion.postgres_triggers import full_name
from app.promotion.side import Changes, Gate, Key, Row, another
from app.promotion.tables import MovedTable
from app.promotion.values import row_name
from app.storage.failures import first_line
from app.storage.postgres import CONNECT_S, TENANT

_LOCK_MS: Final = 2_000
"""Longer than the second (deadlock_timeout) after which PostgreSQL ends an autovacuum that somebody waits for."""
_ONE_PROMOTION: Final = int.from_bytes(b"promote")
"""The key of an advisory lock."""
_LOCK_TRIES: Final = 2
_WRITERS_MS: Final = 2_000
"""So long the gate waits for transactions that have written."""
_OF_A_ROW: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, OverflowError, TypeError)


class _Busy(Unavailable):
    """Somebody else holds a lock."""


def _explained(name: str, error: BaseException) -> TrellisError:
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return ConfigError(
            f"The login of {name} may not do what a promotion needs ({error}): set TRELLIS_DATABASE_OWNER_URL to the "
            "tables' owner, who may also create a schema."
        )
    if isinstance(error, asyncpg.DiskFullError):
        return ConfigError(f"The disk of {name} is full: add space, then run the same command again.")
    return Unavailable(
        f"{name} does not answer: {first_line(error)}. Run the same command again: it goes on.", retry_after=5
    )


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


class _Types:
    """What the key columns of the tables are called here, for arrays of keys."""

    def __init__(self, found: Mapping[tuple[str, str], str]) -> None:
        self._found = found

    def keys(self, table: MovedTable) -> str:
        """`unnest(...)` over one array for each column of the key, as parameters."""
        arrays = (f"${place}::{self._found[table.name, column]}[]" for place, column in enumerate(table.key, start=1))
        return f"unnest({', '.join(arrays)})"


def _columns(table: MovedTable, keys: Sequence[Key]) -> list[list[Any]]:
    return [[key[place] for key in keys] for place in range(len(table.key))]


class PostgresSnapshot:
    """A repeatable read."""

    def __init__(self, connection: asyncpg.Connection, types: _Types) -> None:
        self._connection = connection
        self._types = types

    async def changes(self) -> Changes:
        log = f"{triggers.SCHEMA}.changes"
        head = f"SELECT count(*), max(seq), pg_current_snapshot()::text FROM {log}"  # noqa: S608 - a constant
        entries, last, seen = await self._connection.fetchrow(head)
        found: dict[str, list[Key]] = {}
        for name, key in await self._connection.fetch(f"SELECT DISTINCT name, key FROM {log}"):  # noqa: S608
            found.setdefault(name, []).append(tuple(orjson.loads(key)))
        return Changes(entries, found, (last, seen))

    async def page(self, table: MovedTable, after: Key | None, limit: int) -> Sequence[Row]:
        key = _names(table.key)
        marks = ", ".join(f"${place}" for place in range(2, 2 + len(table.key)))
        where = f"WHERE ({key}) > ({marks})" if after is not None else ""
        query = f"SELECT {_names(table.columns)} FROM {full_name(table)} {where} ORDER BY {key} LIMIT $1"  # noqa: S608
        return [tuple(row) for row in await self._connection.fetch(query, limit, *(after or ()))]

    async def rows(self, table: MovedTable, keys: Sequence[Key]) -> Sequence[Row]:
        query = (
            f"SELECT {_names(table.columns)} FROM {full_name(table)} "  # noqa: S608
            f"WHERE ({_names(table.key)}) IN (SELECT * FROM {self._types.keys(table)})"
        )
        return [tuple(row) for row in await self._connection.fetch(query, *_columns(table, keys))]

    async def count(self, table: MovedTable) -> int:
        return int(await self._connection.fetchval(f"SELECT count(*) FROM {full_name(table)}"))  # noqa: S608


class PostgresWriting:
    """A transaction that says of itself that it is the promotion's. Foreign keys hold: parents are put first."""

    def __init__(self, connection: asyncpg.Connection, types: _Types) -> None:
        self._connection = connection
        self._types = types

    async def put(self, table: MovedTable, rows: Sequence[Row]) -> None:
        try:
            async with self._connection.transaction():
                await self._put(table, rows)
        except _OF_A_ROW as error:
            if len(rows) == 1:
                raise InvalidInput(
                    f"PostgreSQL cannot hold the row {row_name(table, rows[0])} ({first_line(error)}): "
                    "mend it on the side that is left, then run the same command again."
                ) from error
            # Half of a page, and half of that: the one row at fault is named.
            for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
                await self.put(table, half)

    async def _put(self, table: MovedTable, rows: Sequence[Row]) -> None:
        stage, whole = f"stage_{table.name}", full_name(table)
        await self._connection.execute(
            f"CREATE TEMP TABLE IF NOT EXISTS {stage} (LIKE {whole}) ON COMMIT DELETE ROWS; TRUNCATE {stage}"
        )
        await self._connection.copy_records_to_table(stage, records=rows, columns=table.columns)
        plain = [column for column in table.columns if column not in table.key]
        update = ", ".join(f'"{column}" = excluded."{column}"' for column in plain)
        conflict = f"({_names(table.key)}) DO {f'UPDATE SET {update}' if update else 'NOTHING'}"
        columns = _names(table.columns)
        await self._connection.execute(
            f"INSERT INTO {whole} ({columns}) SELECT {columns} FROM {stage} ON CONFLICT {conflict}"  # noqa: S608
        )

    async def park(self, table: MovedTable, keys: Sequence[Key]) -> None:
        if not table.parked:
            return
        sets = ", ".join(f'"{column}" = md5({table.key[0]}::text)' for column in table.parked)
        where = f"({_names(table.key)}) IN (SELECT * FROM {self._types.keys(table)})"  # noqa: S608
        await self._connection.execute(f"UPDATE {full_name(table)} SET {sets} WHERE {where}", *_columns(table, keys))  # noqa: S608

    async def remove(self, table: MovedTable, keys: Sequence[Key]) -> None:
        where = f"({_names(table.key)}) IN (SELECT * FROM {self._types.keys(table)})"  # noqa: S608
        await self._connection.execute(f"DELETE FROM {full_name(table)} WHERE {where}", *_columns(table, keys))  # noqa: S608

    async def note(self, name: str, value: Any) -> None:
        await self._connection.execute(
            f"INSERT INTO {triggers.SCHEMA}.state (name, value) VALUES ($1, $2) "  # noqa: S608
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            orjson.dumps(value).decode(),
        )

    async def hand_over_jobs(self) -> None:
        table = f"{SCHEMA}.{JOBS}"
        await self._connection.execute(
            f"INSERT INTO {triggers.SCHEMA}.changes (name, key) "  # noqa: S608
            f"SELECT '{JOBS}', jsonb_build_array(workflow_uuid)::text FROM {table} WHERE {RUNNING}"
        )
        await self._connection.execute(HAND_OVER.format(table=table))


class PostgresSide:
    """A database, by the address of the login that owns its tables. `tables` are those that move."""

    def __init__(self, url: str, tables: Sequence[MovedTable]) -> None:
        self.name = make_url(url).render_as_string(hide_password=True)
        self._tables = tables
        # For what SQLAlchemy makes of an address: options of the driver.
        engine = create_async_engine(url)
        self._options = engine.dialect.create_connect_args(engine.url)[1]
        self._writer: asyncpg.Connection | None = None
        self._types: _Types | None = None
        self._gatekeeper: asyncpg.Connection | None = None

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            raise _Busy(f"{self.name} is busy: run the same command again.", retry_after=5) from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, DBAPIError) as error:
            raise _explained(self.name, error) from error

    async def _connect(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            **self._options, timeout=CONNECT_S, server_settings={"application_name": "trellis-promotion"}
        )
        await connection.execute(f"SELECT set_config('{TENANT}', '{EVERY_TENANT}', false)")
        return connection

    async def _open(self) -> asyncpg.Connection:
        if self._writer is None or self._writer.is_closed():
            self._writer = await self._connect()
        return self._writer

    async def _key_types(self) -> _Types:
        if self._types is None:
            rows = await (await self._open()).fetch(triggers.KEY_TYPES)
            self._types = _Types({(table, column): kind for table, column, kind in rows})
        return self._types

    async def _value(self, query: str, *values: Any) -> Any:
        with self._telling():
            return await (await self._open()).fetchval(query, *values)

    async def _execute(self, *statements: str) -> None:
        with self._telling():
            connection = await self._open()
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)

    async def revision(self) -> str | None:
        if not await self._value("SELECT to_regclass('alembic_version') IS NOT NULL"):
            return None
        return str(await self._value("SELECT version_num FROM alembic_version"))

    async def install(self, *, closed: bool) -> None:
        fresh = "installed" not in await self.state()
        await self._execute(*triggers.TABLES)
        # A table at a time: whoever writes waits for no more than one.
        for table in self._tables:
            await self._locking(triggers.install(table))
        if fresh and closed:
            await self._value(triggers.CLOSE)
        await self._execute(triggers.READY)

    async def _locking(self, statements: Sequence[str]) -> None:
        for _ in range(_LOCK_TRIES):
            try:
                await self._execute(f"SET LOCAL lock_timeout = {_LOCK_MS}", *statements)
            except _Busy:
                continue
            return
        raise self._held()

    def _held(self) -> Unavailable:
        return Unavailable(
            f"A transaction on {self.name} does not end: nothing was changed, run the same command again.",
            retry_after=5,
        )

    async def installed(self) -> bool:
        return bool(await self._value(triggers.INSTALLED))

    async def uninstall(self) -> None:
        await self._locking(triggers.uninstall(self._tables))

    async def retire(self) -> None:
        await self._locking(triggers.retire(self._tables))

    async def state(self) -> Mapping[str, Any]:
        if not await self.installed():
            return {}
        with self._telling():
            rows = await (await self._open()).fetch(f"SELECT name, value FROM {triggers.SCHEMA}.state")  # noqa: S608
        return {name: orjson.loads(value) for name, value in rows}

    async def gate(self) -> Gate:
        if not await self.installed():
            return Gate.OPEN
        return Gate[await self._value(triggers.GATE)]

    async def close_writes(self, lease_s: float) -> None:
        with self._telling():
            connection = self._gatekeeper = await self._connect()
            # The lock is the lease: the server frees it when this session ends, or is silent for so long.
            await connection.execute(f"SET idle_session_timeout = {round(lease_s * 1000)}")
            await connection.execute(f"SET lock_timeout = {_WRITERS_MS}")
            try:
                await connection.execute(triggers.TAKE)
            except asyncpg.LockNotAvailableError:
                await self._leave_gate()
                raise self._held() from None

    async def keep_closed(self) -> bool:
        if await self.gate() is Gate.CLOSED:
            return True
        if self._gatekeeper is None:
            return False
        try:
            # Said by the session that holds the lock: if it is no more, nothing is closed.
            await self._gatekeeper.execute(triggers.CLOSE)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            return await self.gate() is Gate.CLOSED
        finally:
            await self._leave_gate()
        return True

    async def open_writes(self) -> None:
        await self._value(triggers.OPEN)
        await self._leave_gate()

    async def _leave_gate(self) -> None:
        connection, self._gatekeeper = self._gatekeeper, None
        if connection is not None:
            connection.terminate()

    async def forget(self, changes: Changes) -> None:
        if changes.entries:
            last, seen = changes.mark
            with self._telling():
                await (await self._open()).execute(triggers.FORGET, last, seen)

    async def pending(self) -> int:
        return int(await self._value(f"SELECT count(*) FROM {triggers.SCHEMA}.changes"))  # noqa: S608

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        with self._telling():
            types = await self._key_types()
            connection = await self._connect()
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    yield PostgresSnapshot(connection, types)
            finally:
                await connection.close()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[PostgresWriting]:
        with self._telling():
            types = await self._key_types()
            connection = await self._open()
            async with connection.transaction():
                await connection.execute(f"SELECT set_config('{triggers.OURS}', 'yes', true)")
                yield PostgresWriting(connection, types)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        with self._telling():
            connection = await self._connect()
        try:
            with self._telling():
                # The lock of a process that was killed a moment ago goes with its connection.
                await connection.execute(f"SET lock_timeout = {_LOCK_MS}")
                try:
                    await connection.execute(f"SELECT pg_advisory_lock({_ONE_PROMOTION})")
                except asyncpg.LockNotAvailableError:
                    raise another(self.name) from None
            yield
        finally:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await connection.close(timeout=CONNECT_S)

    async def close(self) -> None:
        await self._leave_gate()
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None
