"""Where each bot's index stands, near enough to be asked on every search."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.cache.known import Known
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
        self._known: Known[Namespace, IndexState] = Known(
            self._read, ttl_s=ttl_s, size=size, timer=lambda: clock().timestamp()
        )

    async def current(self, namespace: Namespace) -> int:
        """The version."""
        return (await self.state(namespace)).version

    def peek(self, namespace: Namespace) -> int | None:
        """The version, where it was read lately enough."""
        known = self._known.peek(_bot(namespace))
        return None if known is None else known.version

    async def state(self, namespace: Namespace) -> IndexState:
        """Version and active generation, as of one moment."""
        return await self._known.get(_bot(namespace))

    def warm(self, namespace: Namespace) -> None:
        """It will be asked for in a moment."""
        self._known.warm(_bot(namespace))

    async def bump(self, session: AsyncSession, namespace: Namespace) -> IndexState:
        """The next state, in the caller's transaction; tell `moved` after the commit."""
        return await IndexRepository(session, namespace.tenant_id).bump(namespace.bot, self._clock)

    def moved(self, namespace: Namespace, state: IndexState) -> None:
        self._known.put(_bot(namespace), state)

    async def _read(self, namespace: Namespace) -> IndexState:
        async with self._db.reading(namespace.tenant_id) as session:
            return await IndexRepository(session, namespace.tenant_id).state(namespace.bot)


def _bot(namespace: Namespace) -> Namespace:
    return namespace._replace(generation="")
