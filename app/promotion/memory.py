"""What was said lately moves along: from the file that an ended server leaves to Redis, and back.

A running embedded server holds its conversations itself and gives them to nobody: an endpoint that gives out
everybody's would be one more thing to guard. It leaves them in a file of the data folder when it ends, as at every
restart (`app.memory.file`), so it is ended once the switch is over, and the file is what moves.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, Protocol

import stamina

from app.cache.connection import PAUSE_S, connect
from app.clock import Clock
from app.errors import ConfigError, TrellisError, Unavailable
from app.knowledge.edge import owner_of
from app.memory import MemoryFile, RedisMemory, Talk
from app.promotion.side import parts
from app.promotion.steps import Context, Finding, StepReport
from app.settings import Settings

NAME: Final = "memory"
MOVED_AT_ONCE: Final = 500
POLL_S: Final = 0.05
GRACE_S: Final = 10.0
ATTEMPTS: Final = 4
AGAIN_S: Final = PAUSE_S + 0.5


class Place(Protocol):
    """Where conversations are kept outside a process: `RedisMemory` or `MemoryFile`."""

    def talks(self) -> AsyncIterator[Talk]: ...

    async def restore(self, talks: Sequence[Talk]) -> None: ...

    async def forget(self, tenant_id: str, user: str, bot: str | None = None) -> None: ...


class MemoryStep:
    """`Step`: does all of it once the switch is over; a turn that comes in between begins without its past, which is
    put before it a moment later."""

    name = NAME

    def __init__(self, clock: Clock, *, attempts: int = ATTEMPTS) -> None:
        self._clock = clock
        self._again = stamina.AsyncRetryingCaller(
            attempts=attempts, timeout=None, wait_initial=AGAIN_S, wait_exp_base=1
        )

    async def run(self, _context: Context) -> StepReport:
        return StepReport(NAME)

    async def settle(self, _context: Context) -> StepReport:
        return StepReport(NAME)

    async def verify(self, context: Context) -> StepReport:
        """What could not be moved stays where it is and is named: conversations are no reason to take a switch back."""
        if context.source.redis_url is not None and context.source.redis_url == context.target.redis_url:
            return StepReport(NAME, findings=(Finding("conversations moved", True, "both sides have the same Redis"),))
        try:
            if not context.back:
                await end_server(context.source)
            moved = await self._again(Unavailable, self._move, context)
        except (TrellisError, OSError) as error:
            seen = f"{error}: they stay where they are until this is done again"
            return StepReport(NAME, findings=(Finding("conversations moved", False, seen),))
        return StepReport(NAME, {"conversations": moved}, (Finding("conversations moved", True, f"{moved} of them"),))

    async def _move(self, context: Context) -> int:
        async with self._open(context.source) as source, self._open(context.target) as target:
            return await move(source, target)

    @asynccontextmanager
    async def _open(self, settings: Settings) -> AsyncIterator[Place]:
        if settings.redis_url is None:
            yield MemoryFile(settings.home, self._clock)
            return
        link = connect(settings.redis_url)
        try:
            yield RedisMemory(link, self._clock)
        finally:
            await link.close()


async def move(source: Place, target: Place) -> int:
    """How many conversations; each is taken out where it was once it is where it goes."""
    talks = [talk async for talk in source.talks()]
    for part in parts(talks, MOVED_AT_ONCE):
        await target.restore(part)
    for tenant_id, user in dict.fromkeys((talk.tenant_id, talk.user) for talk in talks):
        await source.forget(tenant_id, user)
    return len(talks)


async def end_server(settings: Settings) -> None:
    """Ends the server that has the data folder open, and waits until it has let it go.

    Raises ConfigError for one that this process may not end, or that does not end in its time of grace.
    """
    folder = settings.home / "vectors"
    pid = await asyncio.to_thread(owner_of, folder)
    if pid is None:
        return
    try:
        if pid == os.getpid():
            raise PermissionError
        os.kill(pid, signal.SIGTERM)
    except PermissionError:
        raise ConfigError(f"The old server (process {pid}) has to be ended by you: it holds conversations.") from None
    until = monotonic() + settings.shutdown_grace_s + GRACE_S
    while await asyncio.to_thread(owner_of, folder) == pid:
        if monotonic() > until:
            raise ConfigError(f"The old server (process {pid}) does not end: end it, and do this again.")
        await asyncio.sleep(POLL_S)
