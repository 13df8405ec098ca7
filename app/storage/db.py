"""Engines and transactions: SQLite embedded, PostgreSQL in production, one interface."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction

from app.errors import ConfigError
from app.principal import EVERY_TENANT
from app.storage.marks import LocalMarks, WriteMarks
from app.storage.moved import tell_moved
from app.storage.pools import Waited, timed_pool
from app.storage.postgres import ServerPool, beginning, open_engine, position
from app.storage.replicas import ReadAt, Replicas
from app.storage.sqlite import OneTripConnection
from app.storage.writes import watch, written

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


def _sqlite_engine(url: str, waited: Waited, *, writes: bool, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=timed_pool(waited),
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={
            "async_creator_fn": OneTripConnection,
            "timeout": SQLITE_BUSY_TIMEOUT_S,
            "isolation_level": None,
        },
    )
    tell_moved(engine.sync_engine)
    event.listen(engine.sync_engine, "connect", _on_sqlite_connect)
    event.listen(engine.sync_engine, "begin", _begin_immediate if writes else _begin_deferred)
    return engine


class Database:
    """A writer and a reader over one database (they may be the same server).

    `transaction()` is for writes (and reads that a write depends on); `reading()` for everything else. Each is one
    tenant's: on PostgreSQL rows of others are neither seen nor written, whatever the statement says. Work that spans
    tenants asks for `operator_transaction()` or `operator_reading()`.
    On SQLite the writer has one connection, so writers of one process queue in memory, not on the file lock.

    Args:
        reader_url: a replica, or an address of several. A tenant's reads go there where its own last write has come.
        marks: how far each tenant wrote, as all processes know it; without it, what this process knows.
        told: hears where each read of a tenant goes where there is a replica.
        waited: hears the seconds that each connection was waited for.
    """

    def __init__(
        self,
        url: str,
        *,
        reader_url: str | None = None,
        pool: ServerPool | None = None,
        marks: WriteMarks | None = None,
        told: Callable[[ReadAt], None] = lambda _where: None,
        waited: Waited = lambda _seconds: None,
    ) -> None:
        pool = pool or ServerPool()
        self.dialect = make_url(url).get_backend_name()
        self._replicas: Replicas | None = None
        if self.dialect == "sqlite":
            self.writer = _sqlite_engine(url, waited, writes=True, pool_size=1)
            self.reader = _sqlite_engine(url, waited, writes=False, pool_size=pool.size)
        elif self.dialect == "postgresql":
            self.writer = open_engine(url, pool, waited)
            self.reader = open_engine(reader_url, pool, waited) if reader_url else self.writer
        else:
            raise ConfigError(
                f"TRELLIS_DATABASE_URL names '{self.dialect}': use sqlite+aiosqlite or postgresql+asyncpg."
            )
        self._write_sessions = self._sessions(self.writer, pool)
        self._read_sessions = self._sessions(self.reader, pool)
        if self.dialect == "postgresql" and reader_url:
            watch(self.writer, self._write_sessions.kw["sync_session_class"])
            where = partial(position, self.writer)
            self._replicas = Replicas(self._read_sessions, marks or LocalMarks(), where, told)

    def _sessions(self, engine: AsyncEngine, pool: ServerPool) -> async_sessionmaker[AsyncSession]:
        # A class of its own: what begins its transactions is no other database's affair.
        kind = type("_Session", (Session,), {})
        if self.dialect == "postgresql":

            def begin(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
                # The driver sends its BEGIN with the transaction's first statement, which comes after this.
                driver: Any = connection.connection.driver_connection
                driver.beginning = beginning(session.info["tenant"], pool)

            event.listen(kind, "after_begin", begin)
        return async_sessionmaker(engine, expire_on_commit=False, sync_session_class=kind)

    def transaction(self, tenant: str) -> AbstractAsyncContextManager[AsyncSession]:
        """Commits at the end of the block; rolls back on an exception. Its start raises ValueError for no tenant."""
        return self.transaction_of((tenant,))

    @asynccontextmanager
    async def transaction_of(self, tenants: Collection[str]) -> AsyncIterator[AsyncSession]:
        """`transaction()` for work of several tenants that ends as a whole. Raises ValueError for none."""
        whose = frozenset(tenants)
        if not whose or "" in whose:
            raise ValueError("a transaction without a tenant")
        scope = next(iter(whose)) if len(whose) == 1 else EVERY_TENANT
        session = self._write_sessions(info={"tenant": scope})
        through, told = False, None
        try:
            async with session, session.begin():
                yield session
                through = True
        finally:
            # Also where the commit's answer did not come: it may have been carried out.
            if through and self._replicas is not None and written(session).wrote:
                told = self._replicas.committed(whose, written(session).position)
        if told is not None:
            await asyncio.shield(told)

    @asynccontextmanager
    async def reading(self, tenant: str) -> AsyncIterator[AsyncSession]:
        """A session for reads that sees all that the tenant has committed; what is written in it is never committed."""
        if not tenant:
            raise ValueError("a reading without a tenant")
        async with await self._session_to_read(tenant) as session:
            yield session

    def operator_transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """`transaction()` over the rows of all tenants."""
        return self.transaction(EVERY_TENANT)

    def operator_reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """`reading()` over the rows of all tenants, always of the writer."""
        return self.reading(EVERY_TENANT)

    async def _session_to_read(self, tenant: str) -> AsyncSession:
        if self._replicas is None:
            return self._read_sessions(info={"tenant": tenant})
        found = None if tenant == EVERY_TENANT else await self._replicas.session(tenant)
        return found or self._write_sessions(info={"tenant": tenant})

    async def forget_deleted(self) -> bool:
        """Empties the embedded database's log, which still holds what was deleted; whether it was free to be emptied.

        The file itself holds zeros where rows were deleted. A server's own vacuum sees to its files: True.
        """
        if self.dialect != "sqlite":
            return True
        return await asyncio.to_thread(_truncate_log, str(self.writer.url.database))

    async def close(self) -> None:
        if self._replicas is not None:
            await self._replicas.close()
        await self.writer.dispose()
        if self.reader is not self.writer:
            await self.reader.dispose()


def sqlite_version() -> str:
    """The version of the SQLite library that is linked in."""
    return sqlite3.sqlite_version
