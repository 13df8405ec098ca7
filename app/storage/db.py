"""Engines and transactions: SQLite embedded, PostgreSQL in production, one interface."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.errors import ConfigError
from app.storage.sqlite import OneTripConnection

SQLITE_BUSY_TIMEOUT_S = 15.0
LOG_WAIT_S = 2.0


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _truncate_log(path: str) -> bool:
    # A connection of its own: waiting for readers must not keep the one that writes.
    connection = sqlite3.connect(path, timeout=LOG_WAIT_S)
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return not busy


def _begin_immediate(connection: Any) -> None:
    # A deferred transaction that reads and then writes fails at once with SQLITE_BUSY when another
    # writer committed in between; taking the write lock first waits for its turn instead.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _sqlite_engine(url: str, *, writes: bool, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={
            "async_creator_fn": OneTripConnection,
            "timeout": SQLITE_BUSY_TIMEOUT_S,
            "isolation_level": None,
        },
    )
    event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
    event.listen(engine.sync_engine, "begin", _begin_immediate if writes else _begin_deferred)
    return engine


def _server_engine(url: str, pool_size: int) -> AsyncEngine:
    # Parameters stay out of error texts: they hold what people wrote.
    return create_async_engine(url, pool_size=pool_size, max_overflow=0, pool_pre_ping=True, hide_parameters=True)


class Database:
    """A writer and a reader over one database (they may be the same server).

    `transaction()` is for writes (and reads that a write depends on); `reading()` for everything else.
    On SQLite the writer has one connection, so writers of one process queue in memory, not on the file lock.
    """

    def __init__(self, url: str, *, reader_url: str | None = None, pool_size: int = 5) -> None:
        self.dialect = make_url(url).get_backend_name()
        if self.dialect == "sqlite":
            self.writer = _sqlite_engine(url, writes=True, pool_size=1)
            self.reader = _sqlite_engine(url, writes=False, pool_size=pool_size)
        elif self.dialect == "postgresql":
            self.writer = _server_engine(url, pool_size)
            self.reader = _server_engine(reader_url, pool_size) if reader_url else self.writer
        else:
            raise ConfigError(
                f"TRELLIS_DATABASE_URL names '{self.dialect}': use sqlite+aiosqlite or postgresql+asyncpg."
            )
        self._write_sessions = async_sessionmaker(self.writer, expire_on_commit=False)
        self._read_sessions = async_sessionmaker(self.reader, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Commits at the end of the block; rolls back on an exception."""
        async with self._write_sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session for reads; what is written in it is never committed."""
        async with self._read_sessions() as session:
            yield session

    async def forget_deleted(self) -> bool:
        """Empties the embedded database's log, which still holds what was deleted; whether it was free to be emptied.

        The file itself holds zeros where rows were deleted. A server's own vacuum sees to its files: True.
        """
        if self.dialect != "sqlite":
            return True
        return await asyncio.to_thread(_truncate_log, str(self.writer.url.database))

    async def close(self) -> None:
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()


def sqlite_version() -> str:
    """The version of the SQLite library that is linked in."""
    return sqlite3.sqlite_version
