"""What a user's earlier answers rested on: a small, bounded, fading preference for the same documents."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

import orjson

from app.cache.base import MAX_TTL_S, Cache, person_tag, tenant_tag
from app.clock import Clock

# At most a tenth: between passages that are about equally near the question, never over a clearly better one.
MOST_BOOST = 0.1
HALF_LIFE = timedelta(hours=8)
MAX_DOCUMENTS = 100
_NONE: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Liking:
    """A user's documents in one bot.

    Args:
        stamp: another one after every answer; empty for a user without any.
        weights: citations by document id, each halved every `HALF_LIFE`.
    """

    stamp: str = ""
    weights: Mapping[str, float] = field(default_factory=lambda: _NONE)

    def boost(self, document_id: str) -> float:
        """What a passage's fused score is multiplied by: 1 to 1.1."""
        weight = self.weights.get(document_id, 0.0)
        return 1 + MOST_BOOST * weight / (1 + weight)


class History(Protocol):
    """Which documents the answers to a user's questions cited."""

    async def liking(self, tenant_id: str, bot: str, user: str) -> Liking: ...

    async def cited(self, tenant_id: str, bot: str, user: str, document_ids: Sequence[str]) -> None:
        """An answer to the user's question cited these documents."""

    async def forget(self, tenant_id: str, user: str) -> int:
        """Erases everything of the user, in every bot; how many entries."""

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Any]:
        """What is kept of the user: by bot, the document ids with their weight and the time (ISO 8601, UTC)."""


class CachedHistory:
    """`History` in a cache of its own: of the last day, and gone with it. One entry a user holds every bot.

    Two answers to one user at the same moment may lose one of the two: a preference, not a record.
    """

    def __init__(self, cache: Cache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock

    async def liking(self, tenant_id: str, bot: str, user: str) -> Liking:
        kept = (await self._read(tenant_id, user)).get(bot)
        if not kept:
            return Liking()
        now = self._clock()
        stamp = hashlib.sha256(orjson.dumps(kept)).hexdigest()
        return Liking(stamp, {document_id: _faded(entry, now) for document_id, entry in kept.items()})

    async def cited(self, tenant_id: str, bot: str, user: str, document_ids: Sequence[str]) -> None:
        if not document_ids:
            return
        bots, now = await self._read(tenant_id, user), self._clock()
        kept = bots.setdefault(bot, {})
        for document_id in dict.fromkeys(document_ids):
            before = _faded(kept.pop(document_id), now) if document_id in kept else 0.0
            kept[document_id] = (before + 1, now.isoformat())
        bots[bot] = dict(list(kept.items())[-MAX_DOCUMENTS:])
        tags = (person_tag(tenant_id, user), tenant_tag(tenant_id))
        await self._cache.set(_key(tenant_id, user), orjson.dumps(bots), MAX_TTL_S, tags)

    async def forget(self, tenant_id: str, user: str) -> int:
        return await self._cache.drop(person_tag(tenant_id, user))

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Any]:
        return await self._read(tenant_id, user)

    async def _read(self, tenant_id: str, user: str) -> dict[str, Any]:
        raw = await self._cache.get(_key(tenant_id, user))
        return {} if raw is None else dict(orjson.loads(raw))


def _key(tenant_id: str, user: str) -> str:
    # As JSON, so that no two pairs of names make the same key; hashed, since the tenant's index names it for a while.
    return "liking:" + hashlib.blake2b(orjson.dumps([tenant_id, user]), digest_size=16).hexdigest()


def _faded(entry: tuple[float, str], now: datetime) -> float:
    weight, at = entry
    age = (now - datetime.fromisoformat(at)) / HALF_LIFE
    return weight * math.pow(0.5, max(age, 0.0))
