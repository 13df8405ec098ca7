"""Reads on replicas: only where the replica already has the tenant's own last write.

Positions in the log are compared, never clocks, and in the very transaction that reads: behind one address, or behind
PgBouncer, the next transaction may be another replica's.
"""

import time
from collections.abc import Awaitable, Callable
from enum import StrEnum

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.storage.marks import MarksAway, WriteMarks
from app.storage.postgres import replayed

PAUSE_S = 5.0
_log = structlog.get_logger(__name__)


class ReadAt(StrEnum):
    """Where a tenant's read went, and why not to a replica."""

    REPLICA = "replica"
    BEHIND = "writer_replica_behind"
    UNKNOWN = "writer_position_unknown"
    AWAY = "writer_replica_away"


class Replicas:
    """Sessions on a replica.

    Args:
        writer_position: where the primary's log ends now.
        told: hears where each read goes.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        marks: WriteMarks,
        writer_position: Callable[[], Awaitable[int]],
        told: Callable[[ReadAt], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions = sessions
        self._marks = marks
        self._writer_position = writer_position
        self._told = told
        self._monotonic = monotonic
        self._again = 0.0

    async def session(self, tenant: str) -> AsyncSession | None:
        """One whose transaction has begun and sees the tenant's last write; None where the writer must be asked."""
        session, where = await self._open(tenant)
        self._told(where)
        return session

    async def _open(self, tenant: str) -> tuple[AsyncSession | None, ReadAt]:
        if self._monotonic() < self._again:
            return None, ReadAt.AWAY
        try:
            needed = await self._needed(tenant)
        except MarksAway:
            return None, ReadAt.UNKNOWN
        session = self._sessions(info={"tenant": tenant})
        try:
            if await replayed(session, at_least=needed):
                return session, ReadAt.REPLICA
        except (DBAPIError, PoolTimeout, OSError) as error:
            self._pause(error)
            await session.close()
            return None, ReadAt.AWAY
        except BaseException:
            await session.close()
            raise
        await session.close()
        return None, ReadAt.BEHIND

    async def _needed(self, tenant: str) -> int:
        needed = await self._marks.needed(tenant)
        return await self._marks.start(await self._writer_position()) if needed is None else needed

    def _pause(self, error: Exception) -> None:
        _log.warning("replica.away", pause_s=PAUSE_S, error=type(error).__name__)
        self._again = self._monotonic() + PAUSE_S
