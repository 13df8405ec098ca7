"""What a cache is to the rooms above."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

MAX_TTL_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept value, the seconds it still lives, what it came from, and the seconds since it was kept."""

    value: bytes
    ttl_s: float
    tags: tuple[str, ...] = ()
    age_s: float = field(default=0.0, compare=False)


class Cache(Protocol):
    """Bytes by key. A store that is down answers None and drops what is set: it is never an error."""

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        """Keeps the value for `ttl_s` seconds (a day at most); `tags` name what it came from, for `drop`."""

    async def drop(self, *tags: str) -> int:
        """Removes every entry that carries one of the tags, in this process and in the shared tier; how many."""


def tenant_tag(tenant_id: str) -> str:
    return f"tenant:{tenant_id}"


def bot_tag(tenant_id: str, bot: str) -> str:
    return f"bot:{tenant_id}:{bot}"


def document_tag(tenant_id: str, document_id: str) -> str:
    return f"document:{tenant_id}:{document_id}"


def person_tag(tenant_id: str, user: str) -> str:
    """`user` is `Principal.user` (the end user, else the key), or the id of a row that stands for a person.

    Hashed: the log of drops, which every process reads, keeps tags for a while.
    """
    return f"person:{tenant_id}:{hashlib.blake2b(user.encode(), digest_size=16).hexdigest()}"
