"""Small facts that every request asks for, read from the database now and then."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import structlog
from cachetools import LRUCache

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_log = structlog.get_logger(__name__)


class Known(Generic[Key, Value]):
    """What was read within the last `ttl_s` seconds. Many who ask at once share one read.

    What is asked for in the second half of its time is read again beside the answer: what is in use stays at hand, and
    nobody ever gets what is older than `ttl_s`. A read under way when its key is put or forgotten is not kept.
    """

    def __init__(
        self,
        read: Callable[[Key], Awaitable[Value]],
        *,
        ttl_s: float,
        size: int = 10_000,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._ttl_s = ttl_s
        self._timer = timer
        self._entries: LRUCache[Key, tuple[Value, float]] = LRUCache(size)
        self._reading: dict[Key, asyncio.Task[Value]] = {}

    def peek(self, key: Key) -> Value | None:
        """From memory alone, at once; None where the key has to be read first."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, since = entry
        age = self._timer() - since
        if age >= self._ttl_s:
            return None
        if age >= self._ttl_s / 2 and key not in self._reading:
            self._begin(key).add_done_callback(_seen)
        return value

    async def get(self, key: Key) -> Value:
        """Raises what the read raises, to all who wait for it."""
        known = self.peek(key)
        if known is not None:
            return known
        value = await asyncio.shield(self._reading.get(key) or self._begin(key))
        # What was put while the read was under way is newer than what was read.
        put = self.peek(key)
        return value if put is None else put

    def warm(self, key: Key) -> None:
        """Begins to read it, where it is not at hand, beside what the caller does before it asks for it."""
        if self.peek(key) is None and key not in self._reading:
            self._begin(key).add_done_callback(_seen)

    def put(self, key: Key, value: Value) -> None:
        """Tells what the key has become."""
        self._reading.pop(key, None)
        self._entries[key] = value, self._timer()

    def forget(self, key: Key) -> None:
        self._reading.pop(key, None)
        self._entries.pop(key, None)

    def _begin(self, key: Key) -> "asyncio.Task[Value]":
        task = self._reading[key] = asyncio.create_task(self._keep(key))
        return task

    async def _keep(self, key: Key) -> Value:
        # Its age counts from before the read: a change that the read missed is that old.
        since, task = self._timer(), asyncio.current_task()
        try:
            value = await self._read(key)
            if self._reading.get(key) is task:
                self._entries[key] = value, since
            return value
        finally:
            if self._reading.get(key) is task:
                del self._reading[key]


def _seen(task: "asyncio.Task[Value]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("known.read_failed", error=repr(error))
