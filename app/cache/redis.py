"""The tier that all processes share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from cachetools import TTLCache

from app.cache.base import MAX_TTL_S, Entry
from app.cache.connection import RedisAway, RedisLink
from app.clock import Clock, system_clock
from app.ids import new_id

_PAGE: Final = 500
_DROPS_KEPT: Final = 10_000
# A tag's index outlives its longest-lived entry, by more than clocks differ.
_INDEX_SPARE_S: Final = 3600
# How often a process makes sure that a tag's index ends by itself and holds nothing that has long expired.
_TENDED_S: Final = 1800
_TENDED: Final = 10_000
# Takes members off a tag's index unless they were set again meanwhile (another score): ARGV is member, score, ...
_UNTAG: Final = """
for i = 1, #ARGV, 2 do
    if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0) == tonumber(ARGV[i + 1]) then
        redis.call('ZREM', KEYS[1], ARGV[i])
    end
end
return 0
"""


class RedisCache:
    """`Cache` in Redis or a Redis cluster: every command has one key.

    A tag is a sorted set of the keys that carry it, scored by when they expire. While Redis is away everything
    misses, what is set is lost, and a drop is owed: it is made good before anything else is asked of Redis.
    Drops are also written to a stream, from which other processes learn what to drop (`dropped_elsewhere`).

    Args:
        prefix: of every key; no other cache may have it.
        revision: entries of another revision are not read.
    """

    def __init__(self, link: RedisLink, prefix: str, *, clock: Clock = system_clock, revision: str = "") -> None:
        self._link = link.use("cache")
        self._prefix = prefix
        self._clock = clock
        self._revision = revision
        self._origin = new_id("cache")
        self._owed: dict[str, None] = {}
        self._seen = "0-0"
        self._tended: TTLCache[str, bool] = TTLCache(_TENDED, _TENDED_S, timer=lambda: clock().timestamp())

    async def get(self, key: str) -> bytes | None:
        entry = await self.entry(key)
        return None if entry is None else entry.value

    async def entry(self, key: str) -> Entry | None:
        return (await self.entries([key]))[0]

    async def entries(self, keys: Sequence[str]) -> list[Entry | None]:
        """In the order of the keys, None for each that is not kept or whose node is away; one trip."""

        def fill(pipeline: Any) -> None:
            for key in keys:
                pipeline.get(self._key(key))

        try:
            await self._settle()
            return [self._unpack(raw) for raw in await self._link.each(fill)]
        except RedisAway:
            return [None] * len(keys)

    async def set(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        await self.set_many({key: Entry(value, ttl_s, tuple(tags))})

    async def set_many(self, entries: Mapping[str, Entry]) -> None:
        """Two trips: first the tags, for an entry that no tag leads to could not be dropped."""
        now = self._clock().timestamp()
        kept = {key: replace(entry, ttl_s=min(entry.ttl_s, MAX_TTL_S)) for key, entry in entries.items()}
        kept = {key: entry for key, entry in kept.items() if entry.ttl_s > 0}

        def fill_tags(pipeline: Any) -> None:
            for key, entry in kept.items():
                for tag in entry.tags:
                    self._tag(pipeline, tag, key, now, entry.ttl_s)

        def fill(pipeline: Any) -> None:
            for key, entry in kept.items():
                px = max(1, round(entry.ttl_s * 1000))
                pipeline.set(self._key(key), self._pack(entry, now), px=px)

        try:
            await self._settle()
            await self._link.run(fill_tags)
            await self._link.run(fill)
        except RedisAway:
            # It may come back empty.
            self._tended.clear()

    async def discard(self, keys: Iterable[str]) -> int:
        """Removes entries by key; how many."""
        try:
            return await self._unlink(list(keys))
        except RedisAway:
            return 0

    async def drop(self, *tags: str) -> int:
        try:
            return await self._drop(tags)
        except RedisAway:
            self._owed.update(dict.fromkeys(tags))
            return 0

    async def dropped_elsewhere(self) -> list[tuple[str, ...]]:
        """The tags of each drop that another process made since this was last asked; nothing while Redis is away."""
        found: list[tuple[str, ...]] = []
        try:
            while True:
                await self._settle()
                (page,) = await self._link.run(
                    lambda pipeline: pipeline.xrange(self._stream, min=f"({self._seen}", count=_PAGE)
                )
                found += [self._heard(said) for _, said in page if said[b"by"].decode() != self._origin]
                if page:
                    self._seen = page[-1][0].decode()
                if len(page) < _PAGE:
                    return found
        except RedisAway:
            return found

    def _heard(self, said: Mapping[bytes, bytes]) -> tuple[str, ...]:
        tags: tuple[str, ...] = tuple(orjson.loads(said[b"tags"]))
        for tag in tags:
            self._tended.pop(tag, None)
        return tags

    @property
    def _stream(self) -> str:
        return f"{self._prefix}:drops"

    def _key(self, key: str) -> str:
        return f"{self._prefix}:entry:{key}"

    def _index(self, tag: str) -> str:
        return f"{self._prefix}:tag:{tag}"

    def _tag(self, pipeline: Any, tag: str, key: str, now: float, ttl_s: float) -> None:
        index = self._index(tag)
        pipeline.zadd(index, {key: round((now + ttl_s) * 1_000_000)})
        if tag in self._tended:
            return
        self._tended[tag] = True
        pipeline.zremrangebyscore(index, "-inf", round((now - _INDEX_SPARE_S) * 1_000_000))
        pipeline.expire(index, int(MAX_TTL_S) + _INDEX_SPARE_S)

    async def _settle(self) -> None:
        """Makes good the drops that Redis missed. Raises RedisAway where it cannot: then nothing may be read yet."""
        if self._owed:
            owed = tuple(self._owed)
            await self._drop(owed)
            for tag in owed:
                self._owed.pop(tag, None)

    async def _drop(self, tags: Sequence[str]) -> int:
        dropped = 0
        for tag in tags:
            self._tended.pop(tag, None)
            while page := await self._page(tag):
                dropped += await self._unlink([key for key, _ in page])
                # Off the index only once they are gone: a failure in between leaves them to the next drop.
                pairs = [part for key, score in page for part in (key, int(score))]
                await self._link.run(lambda pipeline: pipeline.eval(_UNTAG, 1, self._index(tag), *pairs))  # noqa: B023
        said = {"by": self._origin, "tags": orjson.dumps(tags)}
        await self._link.run(lambda pipeline: pipeline.xadd(self._stream, said, maxlen=_DROPS_KEPT))
        return dropped

    async def _page(self, tag: str) -> list[tuple[str, float]]:
        (page,) = await self._link.run(
            lambda pipeline: pipeline.zrange(self._index(tag), 0, _PAGE - 1, withscores=True)
        )
        return [(key.decode(), score) for key, score in page]

    async def _unlink(self, keys: Sequence[str]) -> int:
        def fill(pipeline: Any) -> None:
            for key in keys:
                # Not `pipeline.unlink`: a cluster's pipeline does not queue it.
                pipeline.execute_command("UNLINK", self._key(key))

        return sum(await self._link.run(fill))

    def _pack(self, entry: Entry, now: float) -> bytes:
        return orjson.dumps([self._revision, now, now + entry.ttl_s, entry.tags]) + b"\n" + entry.value

    def _unpack(self, raw: bytes | None) -> Entry | None:
        if raw is None:
            return None
        head, _, value = raw.partition(b"\n")
        revision, *kept = orjson.loads(head)
        if revision != self._revision or len(kept) != 3:
            return None
        (since, until, tags), now = kept, self._clock().timestamp()
        return Entry(value, until - now, tuple(tags), max(0.0, now - since)) if until > now else None
