"""The embedded database as a side of a promotion: plain sqlite3 in threads, beside the server that uses the file."""

import asyncio
import fcntl
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from app.errors import ConfigError, InvalidInput, TrellisError, Unavailable
from app.jobs.tables import HAND_OVER, JOBS, RUNNING
from app.promotion import sqlite_triggers as triggers
from app.promotion.side import Changes, Gate, Key, Row, another, parts
from app.promotion.tables import MovedTable
from app.promotion.values import FROM_SQLITE, TO_SQLITE, converted, converters, row_name
from app.storage.db import SQLITE_BUSY_TIMEOUT_S

Result = TypeVar("Result")
KEYS_AT_ONCE: Final = 5_000


def _explained(name: str, error: sqlite3.Error) -> TrellisError:
    text = str(error)
    if "disk is full" in text or "disk I/O" in text:
        return ConfigError(f"The disk of {name} is full: free some space, then run the same command again.")
    if "readonly" in text or "unable to open" in text:
        return ConfigError(f"{name} cannot be written: check the file's owner and rights.")
    if "not a database" in text:
        return ConfigError(f"{name} is not a database.")
    return Unavailable(f"{name} does not answer: {text}. Run the same command again: it goes on.", retry_after=5)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


def _keys_in(table: MovedTable) -> str:
    parts = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(len(table.key)))
    return f"({_names(table.key)}) IN (SELECT {parts} FROM json_each(?))"  # noqa: S608 - names of our own tables


def _json(keys: Sequence[Key]) -> str:
    return orjson.dumps(keys).decode()


async def _in_thread(work: Callable[..., Result], *args: Any) -> Result:
    """Also where the caller is cancelled, nothing goes on using a connection after this."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


class SqliteSnapshot:
    """A read transaction of a connection of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def changes(self) -> Changes:
        return await _in_thread(self._changes)

    def _changes(self) -> Changes:
        entries, mark = self._connection.execute("SELECT count(*), max(seq) FROM promotion_changes").fetchone()
        found: dict[str, list[Key]] = {}
        for name, key in self._connection.execute("SELECT DISTINCT name, key FROM promotion_changes"):
            found.setdefault(name, []).append(tuple(orjson.loads(key)))
        return Changes(entries, found, mark)

    async def page(self, table: MovedTable, after: Key | None, limit: int) -> Sequence[Row]:
        key = _names(table.key)
        where = f"WHERE ({key}) > ({_marks(len(table.key))})" if after is not None else ""
        query = f"SELECT {_names(table.columns)} FROM {table.name} {where} ORDER BY {key} LIMIT ?"  # noqa: S608
        return await _in_thread(self._rows, table, query, [*(after or ()), limit])

    async def rows(self, table: MovedTable, keys: Sequence[Key]) -> Sequence[Row]:
        query = f"SELECT {_names(table.columns)} FROM {table.name} WHERE {_keys_in(table)}"  # noqa: S608
        found: list[Row] = []
        for part in parts(keys, KEYS_AT_ONCE):
            found += await _in_thread(self._rows, table, query, [_json(part)])
        return found

    def _rows(self, table: MovedTable, query: str, values: Sequence[Any]) -> list[Row]:
        conversions = converters(table.kinds, FROM_SQLITE)
        return [converted(row, conversions) for row in self._connection.execute(query, values)]

    async def count(self, table: MovedTable) -> int:
        query = f"SELECT count(*) FROM {table.name}"  # noqa: S608
        return int((await _in_thread(lambda: self._connection.execute(query).fetchone()))[0])


class SqliteWriting:
    """A write transaction. Its connection enforces no foreign keys: rows come in an order of their own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def put(self, table: MovedTable, rows: Sequence[Row]) -> None:
        await _in_thread(self._put, table, rows)

    def _put(self, table: MovedTable, rows: Sequence[Row]) -> None:
        conversions = converters(table.kinds, TO_SQLITE)
        plain = [column for column in table.columns if column not in table.key]
        update = ", ".join(f'"{column}" = excluded."{column}"' for column in plain)
        conflict = f"({_names(table.key)}) DO {f'UPDATE SET {update}' if update else 'NOTHING'}"
        statement = (
            f"INSERT INTO {table.name} ({_names(table.columns)}) "  # noqa: S608
            f"VALUES ({_marks(len(table.columns))}) ON CONFLICT {conflict}"
        )
        try:
            self._connection.executemany(statement, (converted(row, conversions) for row in rows))
        except (sqlite3.IntegrityError, sqlite3.InterfaceError, OverflowError) as error:
            first = row_name(table, rows[0])
            raise InvalidInput(f"The embedded database cannot hold a row ({first} or after): {error}.") from error

    async def park(self, table: MovedTable, keys: Sequence[Key]) -> None:
        # A row that is put again below is simply not there in between: nothing here refers to it.
        if table.parked:
            await self.remove(table, keys)

    async def remove(self, table: MovedTable, keys: Sequence[Key]) -> None:
        statement = f"DELETE FROM {table.name} WHERE {_keys_in(table)}"  # noqa: S608
        for part in parts(keys, KEYS_AT_ONCE):
            await _in_thread(self._connection.execute, statement, [_json(part)])

    async def note(self, name: str, value: Any) -> None:
        statement = (
            "INSERT INTO promotion_state (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )
        await _in_thread(self._connection.execute, statement, (name, orjson.dumps(value).decode()))

    async def hand_over_jobs(self) -> None:
        note = (
            f"INSERT INTO promotion_changes (name, key) SELECT '{JOBS}', json_array(workflow_uuid) "  # noqa: S608
            f"FROM {JOBS} WHERE {RUNNING}"
        )
        await _in_thread(self._connection.execute, note)
        await _in_thread(self._connection.execute, HAND_OVER.format(table=JOBS))


class SqliteSide:
    """A database file, which a server of ours may be using at the same time. `tables` are those that move."""

    def __init__(self, path: Path, tables: Sequence[MovedTable]) -> None:
        self.name = str(path)
        self._path = path
        self._tables = tables
        self._writer: sqlite3.Connection | None = None

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise ConfigError(f"There is no database at {self.name}: set TRELLIS_HOME, or run `trellis migrate`.")
        connection = sqlite3.connect(
            self._path, timeout=SQLITE_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        for pragma in ("synchronous=NORMAL", "secure_delete=ON", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(self.name, error) from error

    async def _do(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        def locked() -> Result:
            if self._writer is None:
                self._writer = self._connect()
            return work(self._writer)

        with self._telling():
            return await _in_thread(locked)

    async def _write(self, *statements: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                for statement in statements:
                    connection.execute(statement)

        await self._do(work)

    async def revision(self) -> str | None:
        return await self._do(
            lambda connection: (
                connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
                if _has(connection, "alembic_version")
                else None
            )
        )

    async def install(self, *, closed: bool) -> None:
        await self._write(*triggers.install(self._tables, closed=closed))

    async def installed(self) -> bool:
        return await self._do(lambda connection: _has(connection, "promotion_gate"))

    async def uninstall(self) -> None:
        await self._write(*triggers.uninstall(self._tables))

    async def retire(self) -> None:
        await self._write(*triggers.retire(self._tables))

    async def state(self) -> Mapping[str, Any]:
        if not await self.installed():
            return {}
        rows = await self._do(
            lambda connection: connection.execute("SELECT name, value FROM promotion_state").fetchall()
        )
        return {name: orjson.loads(value) for name, value in rows}

    async def gate(self) -> Gate:
        if not await self.installed():
            return Gate.OPEN
        closed, until = await self._do(
            lambda connection: connection.execute("SELECT closed, until FROM promotion_gate").fetchone()
        )
        if not closed or (until is not None and until <= time.time()):
            return Gate.OPEN
        return Gate.CLOSED if until is None else Gate.LEASED

    async def close_writes(self, lease_s: float) -> None:
        # There is one writer at a time: when this is committed, nobody else's transaction is open.
        await self._write(f"UPDATE promotion_gate SET closed = 1, until = {time.time() + lease_s}")  # noqa: S608

    async def keep_closed(self) -> bool:
        still_shut = "closed AND (until IS NULL OR until > ?)"

        def work(connection: sqlite3.Connection) -> bool:
            # Nobody writes from here to the commit.
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                update = f"UPDATE promotion_gate SET until = NULL WHERE {still_shut}"  # noqa: S608 - a constant
                return connection.execute(update, [time.time()]).rowcount == 1

        if await self._do(work):
            return True
        await self.open_writes()
        return False

    async def open_writes(self) -> None:
        await self._write("UPDATE promotion_gate SET closed = 0, until = NULL")

    async def forget(self, changes: Changes) -> None:
        if changes.entries:
            await self._write(f"DELETE FROM promotion_changes WHERE seq <= {int(changes.mark)}")  # noqa: S608

    async def pending(self) -> int:
        query = "SELECT count(*) FROM promotion_changes"
        return int(await self._do(lambda connection: connection.execute(query).fetchone()[0]))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SqliteSnapshot]:
        with self._telling():
            connection = await _in_thread(self._connect)
            try:
                connection.execute("BEGIN")
                # The state is chosen by the first statement that reads.
                await _in_thread(connection.execute, "SELECT count(*) FROM promotion_gate")
                yield SqliteSnapshot(connection)
            finally:
                connection.close()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[SqliteWriting]:
        def begin(connection: sqlite3.Connection) -> sqlite3.Connection:
            connection.execute("BEGIN IMMEDIATE")
            # Nobody else ever sees this row as it is within this transaction.
            connection.execute("UPDATE promotion_gate SET ours = 1")
            return connection

        connection = await self._do(begin)
        with self._telling():
            try:
                yield SqliteWriting(connection)
                connection.execute("UPDATE promotion_gate SET ours = 0")
                await _in_thread(connection.execute, "COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        try:
            lock = self._path.with_name(f"{self._path.name}-promotion").open("a")
        except OSError as error:
            raise ConfigError(f"{self.name} cannot be written: check the folder's owner and rights.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise another(self.name) from None
            yield

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _has(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (table,)).fetchone() is not None
