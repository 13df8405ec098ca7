"""Conversations of all processes, in Redis."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import orjson

from app.cache.connection import FAILURES, PAUSE_S, Fill, RedisAway, RedisLink
from app.clock import Clock
from app.errors import Unavailable
from app.memory.base import KEPT_FOR, KEPT_TURNS, Conversation, Talk, Turn, lately
from app.memory.wire import pack_turn, turn_of

SCANNED: Final = 1_000

Answers = TypeVar("Answers")


class RedisMemory:
    """`ConversationMemory` of all processes, in Redis or a Redis cluster.

    While Redis is away a user has said nothing and what is added is lost; only `forget` and `export` say so, for
    they promise something. A user's keys share a hash tag: one node has them all and changes them in the order in
    which it is told.
    """

    def __init__(self, link: RedisLink, clock: Clock, *, prefix: str = "trellis:memory") -> None:
        self._link = link.use("memory")
        self._clock = clock
        self._prefix = prefix

    async def recent(self, tenant_id: str, bot: str, user: str) -> Sequence[Turn]:
        keys = self._keys(tenant_id, user)
        try:
            (packed,) = await self._link.run(lambda pipeline: pipeline.lrange(keys.turns(bot), 0, -1))
        except RedisAway:
            return []
        return lately(map(turn_of, packed), self._clock)

    async def add(self, tenant_id: str, bot: str, user: str, *turns: Turn) -> Sequence[Turn]:
        if not turns:
            return await self.recent(tenant_id, bot, user)
        keys = self._keys(tenant_id, user)

        def fill(pipeline: Any) -> None:
            pipeline.rpush(keys.turns(bot), *map(pack_turn, turns))
            pipeline.ltrim(keys.turns(bot), -KEPT_TURNS, -1)
            pipeline.expire(keys.turns(bot), KEPT_FOR)
            pipeline.lrange(keys.turns(bot), 0, -1)

        answers = await self._write(keys, bot, fill)
        return lately(map(turn_of, answers[-1]), self._clock) if answers else []

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
                pipeline.delete(keys.turns(name), keys.summary(name))
                # Not the whole set: a talk with another bot may have begun since it was read.
                pipeline.srem(keys.bots, name)
            if known <= set(bots):
                pipeline.delete(keys.who)

        try:
            known = set(await self._bots(keys))
            bots = sorted(known) if bot is None else [bot]
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
            bot: Conversation(tuple(lately(map(turn_of, turns), self._clock)), summary.decode() if summary else None)
            for bot, turns, summary in zip(bots, answers[::2], answers[1::2], strict=True)
        }
        return {bot: kept for bot, kept in found.items() if kept.turns or kept.summary}

    async def talks(self) -> AsyncIterator[Talk]:
        async for tenant_id, user in self._users():
            keys = self._keys(tenant_id, user)
            for bot in await self._answered(self._bots(keys)):
                talk = await self._read(keys, tenant_id, bot, user)
                if talk.turns or talk.summary:
                    yield talk

    async def restore(self, talks: Iterable[Talk]) -> None:
        for talk in talks:
            await self._restore(talk)

    async def _users(self) -> AsyncIterator[tuple[str, str]]:
        """Tenant and user of everybody who is remembered."""
        found = self._link.client.scan_iter(match=f"{self._prefix}:*:who", count=SCANNED)
        try:
            async for key in found:
                packed = await self._link.client.get(key)
                if packed is not None:
                    tenant_id, user = orjson.loads(packed)
                    yield tenant_id, user
        except FAILURES as error:
            raise _away() from error

    async def _read(self, keys: "_Keys", tenant_id: str, bot: str, user: str) -> Talk:
        def fill(pipeline: Any) -> None:
            pipeline.lrange(keys.turns(bot), 0, -1)
            pipeline.get(keys.summary(bot))
            pipeline.pttl(keys.summary(bot))

        packed, summary, left_ms = await self._answered(self._link.run(fill))
        turns = tuple(lately(map(turn_of, packed), self._clock))
        # Every write gives a summary its whole time: what is left of it says when that was.
        at = self._clock() - KEPT_FOR + timedelta(milliseconds=left_ms)
        return Talk(tenant_id, bot, user, turns, (summary.decode(), at) if summary else None)

    async def _restore(self, talk: Talk) -> None:
        keys, bot = self._keys(talk.tenant_id, talk.user), talk.bot
        (packed,) = await self._answered(self._link.run(lambda pipeline: pipeline.lrange(keys.turns(bot), 0, -1)))
        before = [pack_turn(turn) for turn in lately(talk.turns, self._clock) if pack_turn(turn) not in packed]

        def fill(pipeline: Any) -> None:
            self._introduce(pipeline, keys, bot)
            if before:
                # Nobody else adds on this side, so what is said meanwhile stays behind it.
                pipeline.lpush(keys.turns(bot), *reversed(before))
                pipeline.ltrim(keys.turns(bot), -KEPT_TURNS, -1)
                pipeline.pexpire(keys.turns(bot), self._left(talk.turns[-1].at), nx=True)
            if talk.summary is not None and (left := self._left(talk.summary[1])) > timedelta():
                pipeline.set(keys.summary(bot), talk.summary[0].encode(), px=left, nx=True)

        await self._answered(self._link.run(fill))

    def _left(self, since: datetime) -> timedelta:
        """How long what is of that time is still kept."""
        return since + KEPT_FOR - self._clock()

    async def _answered(self, asked: Awaitable[Answers]) -> Answers:
        try:
            return await asked
        except RedisAway as error:
            raise _away() from error

    def _keys(self, tenant_id: str, user: str) -> "_Keys":
        # A digest, for a user's id may be an e-mail address, and may hold the braces of a hash tag.
        who = hashlib.blake2b(orjson.dumps([tenant_id, user]), digest_size=16).hexdigest()
        return _Keys(f"{self._prefix}:{{{who}}}", orjson.dumps([tenant_id, user]))

    async def _bots(self, keys: "_Keys") -> list[str]:
        (found,) = await self._link.run(lambda pipeline: pipeline.smembers(keys.bots))
        return sorted(bot.decode() for bot in found)

    async def _write(self, keys: "_Keys", bot: str, fill: Fill) -> list[Any]:
        """What `fill` was answered; nothing while Redis is away."""

        def whole(pipeline: Any) -> None:
            # Before, so that nothing is ever kept that `forget` cannot find; after, for a `forget` in between.
            pipeline.sadd(keys.bots, bot)
            fill(pipeline)
            self._introduce(pipeline, keys, bot)

        try:
            return (await self._link.run(whole))[1:-3]
        except RedisAway:
            return []

    def _introduce(self, pipeline: Any, keys: "_Keys", bot: str) -> None:
        """That there is a talk with the bot, and whose it is: keys hold digests."""
        pipeline.sadd(keys.bots, bot)
        pipeline.expire(keys.bots, KEPT_FOR)
        pipeline.set(keys.who, keys.name, ex=KEPT_FOR)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The Redis keys of one user; `name` is the packed tenant and user."""

    base: str
    name: bytes

    @property
    def who(self) -> str:
        return f"{self.base}:who"

    @property
    def bots(self) -> str:
        return f"{self.base}:bots"

    def turns(self, bot: str) -> str:
        return f"{self.base}:turns:{bot}"

    def summary(self, bot: str) -> str:
        return f"{self.base}:summary:{bot}"


def _away() -> Unavailable:
    return Unavailable("The store of conversations does not answer: try again.", retry_after=PAUSE_S)
