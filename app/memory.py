"""What was said lately between a tenant's user and the agent."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from cachetools import LRUCache

from app.clock import Clock

KEPT_TURNS = 10
KEPT_FOR = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; `at` is UTC."""

    role: Literal["user", "assistant"]
    text: str
    at: datetime


class ConversationMemory(Protocol):
    """The last 10 turns of the last 24 hours, by tenant and user; older ones are gone, not archived."""

    async def recent(self, tenant_id: str, user_id: str) -> Sequence[Turn]:
        """Oldest first; empty for a user who said nothing lately."""

    async def add(self, tenant_id: str, user_id: str, *turns: Turn) -> None:
        """Appends in the order given: a question and its answer go in together."""

    async def forget(self, tenant_id: str, user_id: str) -> None:
        """Erases the user's turns at once."""


class LocalMemory:
    """`ConversationMemory` inside one process: lost at its end, as the embedded default may.

    Args:
        users: conversations kept at most; the one unused longest goes first.
    """

    def __init__(self, clock: Clock, *, users: int = 10_000) -> None:
        self._clock = clock
        self._turns: LRUCache[tuple[str, str], deque[Turn]] = LRUCache(users)

    async def recent(self, tenant_id: str, user_id: str) -> Sequence[Turn]:
        oldest = self._clock() - KEPT_FOR
        return [turn for turn in self._turns.get((tenant_id, user_id), ()) if turn.at > oldest]

    async def add(self, tenant_id: str, user_id: str, *turns: Turn) -> None:
        kept = await self.recent(tenant_id, user_id)
        self._turns[tenant_id, user_id] = deque([*kept, *turns], KEPT_TURNS)

    async def forget(self, tenant_id: str, user_id: str) -> None:
        self._turns.pop((tenant_id, user_id), None)
