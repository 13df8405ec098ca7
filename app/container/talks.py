"""Where conversations are remembered, and how they outlive an embedded server."""

from collections.abc import Awaitable, Callable

import structlog

from app.container.container import Parts
from app.container.ground import Ground
from app.memory import ConversationMemory, LocalMemory, MemoryFile, RedisMemory

_log = structlog.get_logger(__name__)


async def open_memory(ground: Ground) -> ConversationMemory:
    """Redis's, or this process's own; an embedded server takes up what its predecessor left, and leaves its own."""
    if ground.redis is not None:
        return RedisMemory(ground.redis, ground.clock)
    memory, file = LocalMemory(ground.clock), MemoryFile(ground.settings.home, ground.clock)
    if ground.parts is Parts.SERVER:
        await memory.restore(await file.take())
        ground.stack.push_async_callback(_leaving(memory, file))
    else:
        await file.drop_expired()
    return memory


def _leaving(memory: LocalMemory, file: MemoryFile) -> Callable[[], Awaitable[None]]:
    async def leave() -> None:
        try:
            await file.write([talk async for talk in memory.talks()])
        except OSError as error:
            _log.error("conversations are lost with this process", file=str(file.path), error=error.strerror)

    return leave
