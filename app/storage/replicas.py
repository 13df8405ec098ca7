"""Reads on replicas: only where the replica already has the tenant's own last write.

Positions in the log are compared, never clocks, and in the very transaction that reads: behind one address, or behind
PgBouncer, the next transaction may be another replica's.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from enum import StrEnum

import structlog
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.principal import EVERY_TENANT
from app.storage.marks import MarksAway, Unknown, WriteMarks
from app.storage.postgres import AWAY, NotAStandby, replayed

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
        self._noting: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def committed(self, tenants: Collection[str], position: int | None) -> asyncio.Task[None]:
        """Begins to tell everybody how far these tenants wrote (None: the writer is asked).

        Until everybody knows, their reads here go to the writer.

        The task raises nothing, and goes on where nobody waits for it: a commit stands, whatever became of its caller.
        """
        self._noting.update(tenants)
        task = asyncio.create_task(self._note(tenants, position), name="write mark")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Waits until all is told."""
        await asyncio.gather(*self._tasks)

    async def session(self, tenant: str) -> AsyncSession | None:
        """One whose transaction has begun and sees the tenant's last write; None where the writer must be asked."""
        session, where = await self._open(tenant)
        self._told(where)
        return session

    async def _note(self, tenants: Collection[str], position: int | None) -> None:
        try:
            at = await self._writer_position() if position is None else position
            await asyncio.gather(*(self._marks.note(tenant, at) for tenant in tenants))
        except AWAY as error:
            _log.warning("replica.position_unknown", error=type(error).__name__)
            await self._marks.lose()
        finally:
            # Unary plus: those of whom something is still to be told.
            self._noting.subtract(tenants)
            self._noting = +self._noting

    async def _open(self, tenant: str) -> tuple[AsyncSession | None, ReadAt]:
        if self._monotonic() < self._again:
            return None, ReadAt.AWAY
        needed = await self._needed(tenant)
        if needed is None:
            return None, ReadAt.UNKNOWN
        session = self._sessions(info={"tenant": tenant})
        try:
            if await replayed(session, at_least=needed):
                return session, ReadAt.REPLICA
        except (*AWAY, NotAStandby) as error:
            self._pause(error)
            await session.close()
            return None, ReadAt.AWAY
        except BaseException:
            await session.close()
            raise
        await session.close()
        return None, ReadAt.BEHIND

    async def _needed(self, tenant: str) -> int | None:
        """The position; None where nobody knows it."""
        if tenant in self._noting or EVERY_TENANT in self._noting:
            return None
        try:
            needed = await self._marks.needed(tenant)
            if isinstance(needed, Unknown):
                needed = await self._marks.start(await self._writer_position(), needed)
        except MarksAway:
            return None
        except AWAY as error:
            _log.warning("replica.position_unknown", error=type(error).__name__)
            return None
        return None if isinstance(needed, Unknown) else needed

    def _pause(self, error: Exception) -> None:
        _log.warning("replica.away", pause_s=PAUSE_S, error=type(error).__name__)
        self._again = self._monotonic() + PAUSE_S
