"""aiosqlite with one trip to the connection's thread for a statement, where its own cursor makes three or four.

A trip (queue, thread switch, event loop) costs more than most of our statements: this takes a fifth off the CPU
time of a lead.
"""

import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from aiosqlite import Connection

FETCH_CHUNK = 64
Rows = Sequence[tuple[Any, ...]]


class OneTripCursor:
    """The part of a cursor that SQLAlchemy asks for. The rows come along with the statement, all of them."""

    def __init__(self, connection: "OneTripConnection") -> None:
        self._connection = connection
        self._rows: deque[tuple[Any, ...]] = deque()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "OneTripCursor":
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> "OneTripCursor":
        return await self._run("execute", statement, parameters)

    async def executemany(self, statement: str, parameters: Any) -> "OneTripCursor":
        return await self._run("executemany", statement, parameters)

    async def _run(self, method: str, statement: str, parameters: Any) -> "OneTripCursor":
        rows, self.description, self.rowcount, self.lastrowid = await self._connection.run(
            method, statement, parameters
        )
        self._rows = deque(rows)
        return self

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows.popleft() if self._rows else None

    async def fetchmany(self, size: int | None = None) -> Rows:
        return [self._rows.popleft() for _ in range(min(size or self.arraysize, len(self._rows)))]

    async def fetchall(self) -> Rows:
        rows, self._rows = self._rows, deque()
        return list(rows)

    async def __aiter__(self) -> AsyncIterator[tuple[Any, ...]]:
        while self._rows:
            yield self._rows.popleft()

    async def close(self) -> None:
        self._rows.clear()


class OneTripConnection(Connection):
    """A connection on a thread of its own, which does not keep the process alive."""

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(partial(sqlite3.connect, database, **options), FETCH_CHUNK)
        self._thread.daemon = True

    def cursor(self) -> OneTripCursor:  # type: ignore[override]
        return OneTripCursor(self)

    async def run(self, method: str, statement: str, parameters: Any) -> tuple[Rows, Any, int, int | None]:
        """Rows, description, row count and last row id of one statement."""
        once = partial(self._once, method, statement, parameters)
        done: tuple[Rows, Any, int, int | None] = await self._execute(once)  # type: ignore[no-untyped-call]
        return done

    def _once(self, method: str, statement: str, parameters: Any) -> tuple[Rows, Any, int, int | None]:
        cursor = self._conn.cursor()
        try:
            getattr(cursor, method)(statement, parameters)
            rows = cursor.fetchall() if cursor.description else []
            return rows, cursor.description, cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()
