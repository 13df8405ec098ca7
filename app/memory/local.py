"""Conversations inside one process."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

from cachetools import LRUCache

from app.clock import Clock
from app.memory.base import KEPT_FOR, KEPT_TURNS, Conversation, Talk, Turn, lately

KEPT_BOTS: Final = 50
MAX_BYTES: Final = 32 << 20
# What Python keeps for a talk and for a turn beside their texts.
_TALK_BYTES: Final = 1_000
_TURN_BYTES: Final = 300


@dataclass(slots=True)
class _Kept:
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
        def size(talks: dict[str, _Kept]) -> int:
            return min(max_bytes, sum(talk.size for talk in talks.values()))

        self._clock = clock
        self._talks: LRUCache[tuple[str, str], dict[str, _Kept]] = LRUCache(max_bytes, size)

    def peek(self, tenant_id: str, bot: str, user: str) -> Sequence[Turn]:
        """`recent`, at once."""
        return lately(self._talk(tenant_id, bot, user).turns, self._clock)

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
        def change(talk: _Kept) -> None:
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
            bot: Conversation(tuple(lately(talk.turns, self._clock)), self._summary(talk))
            for bot, talk in talks.items()
        }
        return {bot: kept for bot, kept in found.items() if kept.turns or kept.summary}

    async def talks(self) -> AsyncIterator[Talk]:
        for (tenant_id, user), talks in list(self._talks.items()):
            for bot, talk in list(talks.items()):
                turns = tuple(lately(talk.turns, self._clock))
                summary = talk.summary if self._summary(talk) is not None else None
                if turns or summary:
                    yield Talk(tenant_id, bot, user, turns, summary)

    async def restore(self, talks: Iterable[Talk]) -> None:
        for given in talks:
            self._change(given.tenant_id, given.bot, given.user, partial(self._restore, given))

    def _restore(self, given: Talk, talk: _Kept) -> None:
        before = [turn for turn in lately(given.turns, self._clock) if turn not in talk.turns]
        talk.turns = deque([*before, *talk.turns], KEPT_TURNS)
        talk.summary = talk.summary if self._summary(talk) is not None else given.summary

    def _talk(self, tenant_id: str, bot: str, user: str) -> _Kept:
        return self._talks.get((tenant_id, user), {}).get(bot) or _Kept()

    def _change(self, tenant_id: str, bot: str, user: str, change: Callable[[_Kept], None]) -> None:
        talks = self._talks.get((tenant_id, user), {})
        talk = talks.pop(bot, None) or _Kept()
        change(talk)
        talks[bot] = talk
        if len(talks) > KEPT_BOTS:
            del talks[next(iter(talks))]
        self._talks[tenant_id, user] = talks

    def _summary(self, talk: _Kept) -> str | None:
        if talk.summary is None or talk.summary[1] <= self._clock() - KEPT_FOR:
            return None
        return talk.summary[0]
