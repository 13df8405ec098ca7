"""The types of the room, and what every memory does."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from app.clock import Clock

KEPT_TURNS: Final = 10
KEPT_FOR: Final = timedelta(hours=24)


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


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation with whose it is, as it goes from one memory to another; `summary` with the time it is of."""

    tenant_id: str
    bot: str
    user: str
    turns: tuple[Turn, ...]
    summary: tuple[str, datetime] | None = None


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

    def talks(self) -> AsyncIterator[Talk]:
        """Everybody's, in no order. Raises Unavailable where the store is away."""

    async def restore(self, talks: Iterable[Talk]) -> None:
        """Puts in what was said before, for as long as it would have been kept: turns that are not there come before
        those that are, a summary only where there is none. A second time changes nothing.

        Raises Unavailable where the store is away.
        """


def lately(turns: Iterable[Turn], clock: Clock) -> list[Turn]:
    """Those that are still kept."""
    oldest = clock() - KEPT_FOR
    return [turn for turn in turns if turn.at > oldest]
