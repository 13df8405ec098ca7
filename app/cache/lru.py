"""The tier inside the process."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.cache.base import MAX_TTL_S, Entry

# What Python keeps for an entry beside its texts: the objects' headers and their places in the indexes.
OVERHEAD_BYTES = 500


@dataclass(frozen=True, slots=True)
class _Kept:
    value: bytes
    until: float
    tags: tuple[str, ...]
    size: int


class LruCache:
    """`Cache` in this process: the least recently used go first.

    Args:
        max_entries: how many are kept at most.
        max_bytes: what they take at most, keys, tags and the objects around them included; a value that does not
            fit by itself is not kept.
        clock: seconds.
    """

    def __init__(
        self,
        max_entries: int = 10_000,
        max_bytes: int = 16 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Kept] = OrderedDict()
        self._tagged: dict[str, set[str]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._bytes

    def peek(self, key: str) -> bytes | None:
        """`get` for a way that is too short to await."""
        kept = self._entries.get(key)
        if kept is None:
            return None
        if kept.until <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return kept.value

    def put(self, key: str, entry: Entry) -> None:
        """`set`, at once."""
        self._remove(key)
        size = OVERHEAD_BYTES + len(entry.value) + len(key) + sum(map(len, entry.tags))
        if entry.ttl_s <= 0 or size > self._max_bytes or self._max_entries < 1:
            return
        self._entries[key] = _Kept(entry.value, self._clock() + min(entry.ttl_s, MAX_TTL_S), entry.tags, size)
        self._bytes += size
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(key)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def take(self, *tags: str) -> list[str]:
        """Removes every entry that carries one of the tags; their keys."""
        keys = {key for tag in tags for key in self._tagged.get(tag, ())}
        for key in keys:
            self._remove(key)
        return list(keys)

    def purge(self) -> int:
        """Removes what has outlived its time; how many."""
        now = self._clock()
        late = [key for key, kept in self._entries.items() if kept.until <= now]
        for key in late:
            self._remove(key)
        return len(late)

    async def get(self, key: str) -> bytes | None:
        return self.peek(key)

    async def set(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        self.put(key, Entry(value, ttl_s, tuple(tags)))

    async def drop(self, *tags: str) -> int:
        return len(self.take(*tags))

    def _remove(self, key: str) -> None:
        kept = self._entries.pop(key, None)
        if kept is None:
            return
        self._bytes -= kept.size
        for tag in kept.tags:
            keys = self._tagged.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._tagged[tag]
