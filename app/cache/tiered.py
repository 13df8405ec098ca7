"""The cache that rooms are given: in process, then Redis, counted, switched, and one call for many who miss at once."""

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.cache.base import Entry
from app.cache.flight import SingleFlight
from app.cache.lru import LruCache
from app.cache.redis import RedisCache
from app.telemetry.metrics import Metrics

# With a shared tier, what another process dropped while Redis did not answer lives here no longer than this.
NEAR_TTL_S: Final = 60.0
# For so long after a drop Redis may hold what a process that has not heard of it yet made from what was there before.
SETTLING_S: Final = 2.0
_REMEMBERED: Final = 10_000

Tier = Literal["l1", "l2", "none"]
Result = Literal["hit", "miss", "shared", "bypass", "off"]
SwitchedOn = Callable[[str | None], bool]
"""Whether the cache is on for a tenant, or (None) for a call that belongs to none."""


@dataclass(frozen=True, slots=True)
class Made:
    """What was made on a miss; `keep` False where it is good for those who wait for it alone."""

    value: bytes
    tags: tuple[str, ...] = ()
    keep: bool = True


class TieredCache:
    """`Cache` over two tiers; what the second one holds is copied into the first when it is asked for.

    `tenant_id` says whose flag decides whether the cache is on; a key must carry the tenant by itself.
    """

    def __init__(
        self,
        name: str,
        l1: LruCache,
        l2: RedisCache | None,
        metrics: Metrics,
        enabled: SwitchedOn = lambda _tenant: True,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._l1 = l1
        self._l2 = l2
        self._enabled = enabled
        self._drops = _Drops(monotonic)
        self._flights: SingleFlight[tuple[bytes, Tier]] = SingleFlight()
        self._requests = metrics.cache_requests
        self._saved = metrics.cache_saved_usd.labels(name)
        metrics.cache_entries.labels(name).set_function(lambda: len(l1))
        metrics.cache_bytes.labels(name).set_function(lambda: l1.size)

    def on(self, tenant_id: str | None = None) -> bool:
        return self._enabled(tenant_id)

    def mark(self) -> int:
        """The present moment, for `set(since=...)`."""
        return self._drops.count

    def count(self, result: Result, tier: Tier = "none") -> None:
        """Counts a look-up of a caller that goes by `find`."""
        self._requests.labels(self._name, tier, result).inc()

    def saved(self, cost_micros: int) -> None:
        """Counts what a hit spared, in micro-USD."""
        self._saved.inc(cost_micros / 1_000_000)

    def peek(self, key: str, tenant_id: str | None = None) -> bytes | None:
        """From this process alone, at once; only a hit is counted."""
        if not self.on(tenant_id):
            return None
        value = self._l1.peek(key)
        if value is not None:
            self.count("hit", "l1")
        return value

    async def find(self, key: str) -> bytes | None:
        """Like `get`, for callers that ask `on` and count misses themselves: here only a hit is counted."""
        value, tier = await self.look(key)
        if value is not None:
            self.count("hit", tier)
        return value

    async def look(self, key: str) -> tuple[bytes | None, Tier]:
        """The value and where it was; nothing is counted."""
        value = self._l1.peek(key)
        if value is not None:
            return value, "l1"
        value = await self._far(key)
        return value, "none" if value is None else "l2"

    async def get(self, key: str, tenant_id: str | None = None) -> bytes | None:
        if not self.on(tenant_id):
            self.count("off")
            return None
        value = await self.find(key)
        if value is None:
            self.count("miss")
        return value

    async def get_many(self, keys: Sequence[str], tenant_id: str | None = None) -> dict[str, bytes]:
        """Those of the keys that are kept."""
        if not self.on(tenant_id):
            self._requests.labels(self._name, "none", "off").inc(len(keys))
            return {}
        near = {key: value for key in keys if (value := self._l1.peek(key)) is not None}
        missing = [key for key in keys if key not in near]
        far = await self._far_many(missing) if missing else {}
        for tier, result, number in (("l1", "hit", len(near)), ("l2", "hit", len(far)), ("none", "miss", len(missing))):
            self._requests.labels(self._name, tier, result).inc(number - (len(far) if result == "miss" else 0))
        return near | far

    async def set(
        self,
        key: str,
        value: bytes,
        ttl_s: float,
        tags: Sequence[str] = (),
        *,
        tenant_id: str | None = None,
        since: int | None = None,
    ) -> None:
        """Keeps a value.

        Args:
            since: the `mark` from before the value's sources were read: what was made from something that has been
                dropped meanwhile is not kept.
        """
        await self.set_many({key: Entry(value, ttl_s, tuple(tags))}, tenant_id=tenant_id, since=since)

    async def set_many(
        self, entries: Mapping[str, Entry], *, tenant_id: str | None = None, since: int | None = None
    ) -> None:
        if not self.on(tenant_id):
            return
        began = self.mark() if since is None else since
        fresh = {key: entry for key, entry in entries.items() if not self._drops.touched(began, entry.tags)}
        for key, entry in fresh.items():
            self._near(key, entry)
        if self._l2 is None or not fresh:
            return
        await self._l2.set_many(fresh)
        late = [key for key, entry in fresh.items() if self._drops.touched(began, entry.tags)]
        if late:
            await self._l2.discard(late)

    async def get_or_make(
        self, key: str, ttl_s: float, make: Callable[[], Awaitable[Made]], tenant_id: str | None = None
    ) -> bytes:
        """The kept value, or what `make` makes; of many who miss at once one makes it and all get it.

        Raises what `make` raises, to all who wait for it; nothing is kept then.
        """
        if not self.on(tenant_id):
            self.count("off")
            return (await make()).value
        kept = self.peek(key, tenant_id)
        if kept is not None:
            return kept
        (value, tier), shared = await self._flights.run(key, lambda: self._load(key, ttl_s, make, tenant_id))
        self.count("shared" if shared else "miss" if tier == "none" else "hit", "none" if shared else tier)
        return value

    async def drop(self, *tags: str) -> int:
        """Removes what carries one of the tags, here at once, in Redis before it returns, elsewhere within a second."""
        self._drops.note(tags)
        near = len(self._l1.take(*tags))
        return near if self._l2 is None else max(near, await self._l2.drop(*tags))

    async def catch_up(self) -> None:
        """Drops what other processes dropped since the last time."""
        if self._l2 is None:
            return
        for tags in await self._l2.dropped_elsewhere():
            self._drops.note(tags)
            # An entry that was on its way to Redis while the other process dropped is gone from there, too.
            keys = self._l1.take(*tags)
            if keys:
                await self._l2.discard(keys)

    def purge(self) -> None:
        """Frees what has outlived its time in this process; Redis does so by itself."""
        self._l1.purge()

    async def _load(
        self, key: str, ttl_s: float, make: Callable[[], Awaitable[Made]], tenant_id: str | None
    ) -> tuple[bytes, Tier]:
        known = await self._far(key)
        if known is not None:
            return known, "l2"
        began = self.mark()
        made = await make()
        if made.keep:
            await self.set(key, made.value, ttl_s, made.tags, tenant_id=tenant_id, since=began)
        return made.value, "none"

    async def _far(self, key: str) -> bytes | None:
        return (await self._far_many([key])).get(key)

    async def _far_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        if self._l2 is None:
            return {}
        entries = zip(keys, await self._l2.entries(keys), strict=True)
        found = {key: entry for key, entry in entries if entry and not self._drops.after(entry)}
        for key, entry in found.items():
            self._near(key, entry)
        return {key: entry.value for key, entry in found.items()}

    def _near(self, key: str, entry: Entry) -> None:
        ttl_s = entry.ttl_s if self._l2 is None else min(entry.ttl_s, NEAR_TTL_S)
        self._l1.put(key, Entry(entry.value, ttl_s, entry.tags))


class _Drops:
    """Which tags were dropped lately, in the order of the drops; of what it no longer knows it assumes the worst."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.count = 0
        self._monotonic = monotonic
        self._last: dict[str, tuple[int, float]] = {}
        self._forgotten = 0, -math.inf

    def note(self, tags: Sequence[str]) -> None:
        self.count += 1
        now = self._monotonic()
        for tag in tags:
            self._last.pop(tag, None)
            self._last[tag] = self.count, now
        while len(self._last) > _REMEMBERED:
            self._forgotten = self._last.pop(next(iter(self._last)))

    def touched(self, since: int, tags: Sequence[str]) -> bool:
        """Whether one of the tags was, or may have been, dropped after `since`."""
        return any(self._last.get(tag, self._forgotten)[0] > since for tag in tags)

    def after(self, entry: Entry) -> bool:
        """Whether one of its tags was, or may have been, dropped a moment ago or since the entry was kept.

        Of the latter Redis has none left, but where a node died with what led from a tag to the entry.
        """
        since = self._monotonic() - max(SETTLING_S, entry.age_s)
        return any(self._last.get(tag, self._forgotten)[1] > since for tag in entry.tags)
