"""Where each bot's index stands, near enough to be asked on every search."""

from cachetools import TTLCache
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.knowledge.base import Namespace
from app.knowledge.repository import IndexRepository, IndexState
from app.storage.db import Database


class IndexVersions:
    """Reads a state at most every `ttl_s` seconds; a change of this process is seen at once.

    The state is the bot's, whichever generation a namespace names.
    """

    def __init__(self, db: Database, clock: Clock, *, ttl_s: float = 1.0, size: int = 10_000) -> None:
        self._db = db
        self._clock = clock
        self._known: TTLCache[Namespace, IndexState] = TTLCache(size, ttl_s, timer=lambda: clock().timestamp())

    async def current(self, namespace: Namespace) -> int:
        """The version."""
        return (await self.state(namespace)).version

    def peek(self, namespace: Namespace) -> int | None:
        """The version, where it was read lately enough."""
        known: IndexState | None = self._known.get(_bot(namespace))
        return None if known is None else known.version

    async def state(self, namespace: Namespace) -> IndexState:
        """Version and active generation, as of one moment."""
        key = _bot(namespace)
        known: IndexState | None = self._known.get(key)
        if known is None:
            async with self._db.reading() as session:
                known = await IndexRepository(session, namespace.tenant_id).state(namespace.bot)
            # A change that this process made while the read was under way is newer than what was read.
            known = max(known, self._known.get(key, known), key=lambda state: state.version)
            self._known[key] = known
        return known

    async def bump(self, session: AsyncSession, namespace: Namespace) -> IndexState:
        """The next state, in the caller's transaction; tell `moved` after the commit."""
        return await IndexRepository(session, namespace.tenant_id).bump(namespace.bot, self._clock)

    def moved(self, namespace: Namespace, state: IndexState) -> None:
        self._known[_bot(namespace)] = state


def _bot(namespace: Namespace) -> Namespace:
    return namespace._replace(generation="")
