"""Jobs that this worker began and that ended without an outcome on record, because the database was away or full.

The engine counts such a job as running, and recovers it when the process ends: here it is put back while it lives.
"""

import asyncio
from collections.abc import Callable, Set
from typing import Final

import structlog

from app.jobs.store import Store

EVERY_S: Final = 5.0
_log = structlog.get_logger(__name__)


class Orphans:
    """Looks every `every_s` seconds. A job counts when two looks in a row find that it does not run: one that was just
    taken out of its queue is about to.

    Args:
        running: the ids of the jobs that run here now.
        told: called after some were put back.
    """

    def __init__(
        self,
        store: Store,
        executor_id: str,
        version: str,
        running: Callable[[], Set[str]],
        told: Callable[[], None],
        every_s: float = EVERY_S,
    ) -> None:
        self._store = store
        self._executor_id = executor_id
        self._version = version
        self._running = running
        self._told = told
        self._every_s = every_s
        self._suspects: Set[str] = frozenset()

    async def keep_looking(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.look()
            except Exception as problem:
                # The database is still away; its next look may find it back.
                _log.warning("orphans_not_looked_for", error=type(problem).__name__)

    async def look(self) -> None:
        idle = await asyncio.to_thread(self._store.pending, self._executor_id, self._version) - self._running()
        orphans, self._suspects = self._suspects & idle, idle
        if orphans:
            await asyncio.to_thread(self._store.put_back, self._executor_id, sorted(orphans))
            _log.warning("jobs_without_outcome_put_back", count=len(orphans))
            self._suspects = idle - orphans
            self._told()
