"""What was said lately between a tenant's user and a bot."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Protocol

import orjson
from cachetools import LRUCache

from app.cache.connection import PAUSE_S, Fill, RedisAway, RedisLink
from app.clock import Clock
from app.errors import Unavailable

KEPT_TURNS: Final = 10
KEPT_FOR: Final = timedelta(hours=24)
KEPT_BOTS: Final = 50
MAX_BYTES: Final = 32 << 20
# What Python keeps for a talk and for a turn beside their texts.
_TALK_BYTES: Final = 1_000
_TURN_BYTES: Final = 300


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `at` is UTC."""

    role: Literal["user", "assistant"]
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is kept of a user's talk with one bot: the last turns, oldest first, and what came before them."""

    turns: tuple[Turn, ...]
    summary: str | None = None


class ConversationMemory(Protocol):
    """The last 10 turns of the last 24 hours, by tenant, bot and user; older ones are gone, not archived."""

    async def recent(self, tenant_id: str, bot: str, user: str) -> Sequence[Turn]:
        """Oldest first; empty for a user who said nothing lately."""

    async def add(self, tenant_id: str, bot: str, user: str, *turns: Turn) -> Sequence[Turn]:
        """Appends in the order given: a question and its answer go in together. What is `recent` then."""

    async def summary(self, tenant_id: str, bot: str, user: str) -> str | None:
        """What `summarise` kept within the last 24 hours."""

    async def summarise(self, tenant_id: str, bot: str, user: str, text: str) -> None:
        """Keeps what was said before the turns that are still there, in place of an earlier summary."""

    async def forget(self, tenant_id: str, user: str, bot: str | None = None) -> None:
        """Erases what the user said, to that bot or (None) to every one, at once. Raises Unavailable where the store
        is away."""

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Conversation]:
        """All that is kept of the user, by bot. Raises Unavailable where the store is away."""


@dataclass(slots=True)
class _Talk:
    turns: deque[Turn] = field(default_factory=lambda: deque(maxlen=KEPT_TURNS))
    summary: tuple[str, datetime] | None = None

    @property
    def size(self) -> int:
        """Bytes, about."""
        texts = [turn.text for turn in self.turns] + [self.summary[0] if self.summary else ""]
        return _TALK_BYTES + _TURN_BYTES * len(self.turns) + sum(map(len, texts))


class LocalMemory:
    """`ConversationMemory` inside one process: lost at its end, as the embedded default may.

    Args:
        max_bytes: of all users together; the conversations of the one who was away longest go first. Of one user the
            last `KEPT_BOTS` bots are remembered.
    """

    def __init__(self, clock: Clock, *, max_bytes: int = MAX_BYTES) -> None:
        def size(talks: dict[str, _Talk]) -> int:
            return min(max_bytes, sum(talk.size for talk in talks.values()))

        self._clock = clock
        self._talks: LRUCache[tuple[str, str], dict[str, _Talk]] = LRUCache(max_bytes, size)

    def peek(self, tenant_id: str, bot: str, user: str) -> Sequence[Turn]:
        """`recent`, at once."""
        return _lately(self._talk(tenant_id, bot, user).turns, self._clock)

    def put(self, tenant_id: str, bot: str, user: str, *turns: Turn) -> None:
        """`add`, at once."""
        self._change(tenant_id, bot, user, lambda talk: talk.turns.extend(turns))

    async def recent(self, tenant_id: str, bot: str, user: str) -> Sequence[Turn]:
        return self.peek(tenant_id, bot, user)

    async def add(self, tenant_id: str, bot: str, user: str, *turns: Turn) -> Sequence[Turn]:
        self.put(tenant_id, bot, user, *turns)
        return self.peek(tenant_id, bot, user)

    async def summary(self, tenant_id: str, bot: str, user: str) -> str | None:
        return self._summary(self._talk(tenant_id, bot, user))

    async def summarise(self, tenant_id: str, bot: str, user: str, text: str) -> None:
        def change(talk: _Talk) -> None:
            talk.summary = text, self._clock()

        self._change(tenant_id, bot, user, change)

    async def forget(self, tenant_id: str, user: str, bot: str | None = None) -> None:
        if bot is None:
            self._talks.pop((tenant_id, user), None)
        else:
            talks = self._talks.get((tenant_id, user), {})
            if talks.pop(bot, None):
                self._talks[tenant_id, user] = talks

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Conversation]:
        talks = self._talks.get((tenant_id, user), {})
        found = {
            bot: Conversation(tuple(_lately(talk.turns, self._clock)), self._summary(talk))
            for bot, talk in talks.items()
        }
        return {bot: kept for bot, kept in found.items() if kept.turns or kept.summary}

    def _talk(self, tenant_id: str, bot: str, user: str) -> _Talk:
        return self._talks.get((tenant_id, user), {}).get(bot) or _Talk()

    def _change(self, tenant_id: str, bot: str, user: str, change: Callable[[_Talk], None]) -> None:
        talks = self._talks.get((tenant_id, user), {})
        talk = talks.pop(bot, None) or _Talk()
        change(talk)
        talks[bot] = talk
        if len(talks) > KEPT_BOTS:
            del talks[next(iter(talks))]
        self._talks[tenant_id, user] = talks

    def _summary(self, talk: _Talk) -> str | None:
        if talk.summary is None or talk.summary[1] <= self._clock() - KEPT_FOR:
            return None
        return talk.summary[0]


class RedisMemory:
    """`ConversationMemory` of all processes, in Redis or a Redis cluster.

    While Redis is away a user has said nothing and what is added is lost; only `forget` and `export` say so, for
    they promise something. A user's keys share a hash tag: one node has them all and changes them in the order in
    which it is told.
    """

    def __init__(self, link: RedisLink, clock: Clock, *, prefix: str = "trellis:memory") -> None:
        self._link = link
        self._clock = clock
        self._prefix = prefix

    async def recent(self, tenant_id: str, bot: str, user: str) -> Sequence[Turn]:
        keys = self._keys(tenant_id, user)
        try:
            (packed,) = await self._link.run(lambda pipeline: pipeline.lrange(keys.turns(bot), 0, -1))
        except RedisAway:
            return []
        return _lately(map(_unpack, packed), self._clock)

    async def add(self, tenant_id: str, bot: str, user: str, *turns: Turn) -> Sequence[Turn]:
        if not turns:
            return await self.recent(tenant_id, bot, user)
        keys = self._keys(tenant_id, user)

        def fill(pipeline: Any) -> None:
            pipeline.rpush(keys.turns(bot), *map(_pack, turns))
            pipeline.ltrim(keys.turns(bot), -KEPT_TURNS, -1)
            pipeline.expire(keys.turns(bot), KEPT_FOR)
            pipeline.lrange(keys.turns(bot), 0, -1)

        answers = await self._write(keys, bot, fill)
        return _lately(map(_unpack, answers[-1]), self._clock) if answers else []

    async def summary(self, tenant_id: str, bot: str, user: str) -> str | None:
        keys = self._keys(tenant_id, user)
        try:
            (packed,) = await self._link.run(lambda pipeline: pipeline.get(keys.summary(bot)))
        except RedisAway:
            return None
        return None if packed is None else str(packed.decode())

    async def summarise(self, tenant_id: str, bot: str, user: str, text: str) -> None:
        keys = self._keys(tenant_id, user)
        await self._write(keys, bot, lambda pipeline: pipeline.set(keys.summary(bot), text.encode(), ex=KEPT_FOR))

    async def forget(self, tenant_id: str, user: str, bot: str | None = None) -> None:
        keys = self._keys(tenant_id, user)

        def fill(pipeline: Any) -> None:
            for name in bots:
                # Not `pipeline.delete`: a cluster's pipeline does not queue it.
                pipeline.execute_command("DEL", keys.turns(name), keys.summary(name))
                # Not the whole set: a talk with another bot may have begun since it was read.
                pipeline.srem(keys.bots, name)

        try:
            bots = await self._bots(keys) if bot is None else [bot]
            if bots:
                await self._link.run(fill)
        except RedisAway as error:
            raise _away() from error

    async def export(self, tenant_id: str, user: str) -> Mapping[str, Conversation]:
        keys = self._keys(tenant_id, user)

        def fill(pipeline: Any) -> None:
            for bot in bots:
                pipeline.lrange(keys.turns(bot), 0, -1)
                pipeline.get(keys.summary(bot))

        try:
            bots = await self._bots(keys)
            answers = await self._link.run(fill)
        except RedisAway as error:
            raise _away() from error
        found = {
            bot: Conversation(tuple(_lately(map(_unpack, turns), self._clock)), summary.decode() if summary else None)
            for bot, turns, summary in zip(bots, answers[::2], answers[1::2], strict=True)
        }
        return {bot: kept for bot, kept in found.items() if kept.turns or kept.summary}

    def _keys(self, tenant_id: str, user: str) -> "_Keys":
        # A digest, for a user's id may be an e-mail address, and may hold the braces of a hash tag.
        who = hashlib.blake2b(orjson.dumps([tenant_id, user]), digest_size=16).hexdigest()
        return _Keys(f"{self._prefix}:{{{who}}}")

    async def _bots(self, keys: "_Keys") -> list[str]:
        (found,) = await self._link.run(lambda pipeline: pipeline.smembers(keys.bots))
        return sorted(bot.decode() for bot in found)

    async def _write(self, keys: "_Keys", bot: str, fill: Fill) -> list[Any]:
        """What `fill` was answered; nothing while Redis is away."""

        def whole(pipeline: Any) -> None:
            # Before, so that nothing is ever kept that `forget` cannot find; after, for a `forget` in between.
            pipeline.sadd(keys.bots, bot)
            fill(pipeline)
            pipeline.sadd(keys.bots, bot)
            pipeline.expire(keys.bots, KEPT_FOR)

        try:
            return (await self._link.run(whole))[1:-2]
        except RedisAway:
            return []


@dataclass(frozen=True, slots=True)
class _Keys:
    """The Redis keys of one user."""

    base: str

    @property
    def bots(self) -> str:
        return f"{self.base}:bots"

    def turns(self, bot: str) -> str:
        return f"{self.base}:turns:{bot}"

    def summary(self, bot: str) -> str:
        return f"{self.base}:summary:{bot}"


def _lately(turns: Iterable[Turn], clock: Clock) -> list[Turn]:
    oldest = clock() - KEPT_FOR
    return [turn for turn in turns if turn.at > oldest]


def _pack(turn: Turn) -> bytes:
    return orjson.dumps([turn.role, turn.text, turn.at])


def _unpack(packed: bytes) -> Turn:
    role, text, at = orjson.loads(packed)
    return Turn(role, text, datetime.fromisoformat(at))


def _away() -> Unavailable:
    return Unavailable("The store of conversations does not answer: try again.", retry_after=PAUSE_S)
