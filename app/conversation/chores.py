"""Work that an answer need not wait for: done beside it, never lost without a word."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog

MOST: Final = 256

_log = structlog.get_logger(__name__)


class Chores:
    """Small tasks of this process; what they leave undone costs a later turn something, and breaks nothing."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Starts the work, or leaves it undone where too much is under way."""
        if len(self._tasks) >= self._most:
            work.close()
            _log.warning("conversation.chore_skipped", chore=name)
            return
        task = asyncio.create_task(_guarded(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def done(self) -> None:
        """Returns when all that was added is done."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Gives up what is under way."""
        for task in self._tasks:
            task.cancel()
        await self.done()


async def _guarded(name: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception as error:
        _log.warning("conversation.chore_failed", chore=name, error=repr(error))
