"""Every cache of the process, and the one way to drop what came from something."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import structlog

from app.cache.connection import RedisLink
from app.cache.lru import LruCache
from app.cache.redis import RedisCache
from app.cache.tiered import TieredCache
from app.clock import Clock
from app.telemetry.metrics import Metrics

CATCH_UP_S: Final = 0.5
PURGE_EVERY: Final = 120
MAX_ENTRIES: Final = 10_000
SWITCHES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "cache.models": "Gives a model's reply again where the same request was answered within the hour.",
        "cache.answers": "Gives a finished answer again where the same question meets the same knowledge.",
        "cache.semantic": "Gives the answer to a question that means the same.",
        "cache.embeddings": "Keeps the vectors of texts for a day; decided for every tenant at once.",
        "cache.retrieval": "Keeps what a search found until the knowledge changes.",
    }
)
"""The flags of the room, all on by default, and what each does."""

_log = structlog.get_logger(__name__)


class Caches:
    """Replies of models, finished answers, embeddings and retrievals.

    Args:
        switched_on: a flag's value by its name and a tenant (None: for what belongs to no tenant).
        redis: the tier that all processes share, where there is one.
        max_bytes: of this process's tiers together, a quarter for each cache.
        revision: of the program; entries of another one are not read.
    """

    def __init__(
        self,
        metrics: Metrics,
        switched_on: Callable[[str, str | None], bool],
        redis: RedisLink | None,
        clock: Clock,
        *,
        max_bytes: int = 32 << 20,
        revision: str = "",
    ) -> None:
        def build(name: str) -> TieredCache:
            l1 = LruCache(MAX_ENTRIES, max_bytes // 4, lambda: clock().timestamp())
            l2 = RedisCache(redis, f"trellis:cache:{name}", clock=clock, revision=revision) if redis else None
            return TieredCache(name, l1, l2, metrics, lambda tenant: switched_on(f"cache.{name}", tenant))

        self.models = build("models")
        self.answers = build("answers")
        self.embeddings = build("embeddings")
        self.retrieval = build("retrieval")
        self._watch: asyncio.Task[None] | None = None

    @property
    def all(self) -> tuple[TieredCache, ...]:
        return self.models, self.answers, self.embeddings, self.retrieval

    def start(self) -> None:
        """Begins to follow the drops of other processes, and to free what has outlived its time once a minute."""
        self._watch = asyncio.create_task(self._follow(), name="caches")

    async def drop(self, *tags: str) -> int:
        """Removes what carries one of the tags from every cache; how many entries."""
        return sum(await asyncio.gather(*(cache.drop(*tags) for cache in self.all)))

    async def catch_up(self) -> None:
        """Drops what other processes dropped since the last time; `start` does it twice a second."""
        await asyncio.gather(*(cache.catch_up() for cache in self.all))

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None

    async def _follow(self) -> None:
        for turn in itertools.count(1):
            await asyncio.sleep(CATCH_UP_S)
            try:
                await self.catch_up()
            except Exception as error:
                _log.warning("caches.follow_failed", error=repr(error))
            if turn % PURGE_EVERY == 0:
                for cache in self.all:
                    cache.purge()
