"""The version of each namespace's index, near enough to be asked on every search."""

from cachetools import TTLCache
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.knowledge.base import Namespace
from app.knowledge.repository import IndexRepository
from app.storage.db import Database


class IndexVersions:
    """Reads a version at most every `ttl_s` seconds; a change of this process is seen at once."""

    def __init__(self, db: Database, clock: Clock, *, ttl_s: float = 1.0, size: int = 10_000) -> None:
        self._db = db
        self._clock = clock
        self._known: TTLCache[Namespace, int] = TTLCache(size, ttl_s, timer=lambda: clock().timestamp())

    async def current(self, namespace: Namespace) -> int:
        known: int | None = self._known.get(namespace)
        if known is None:
            async with self._db.reading() as session:
                known = await IndexRepository(session, namespace.tenant_id).version(namespace.bot)
            # A change that this process made while the read was under way is newer than what was read.
            known = max(known, self._known.get(namespace, 0))
            self._known[namespace] = known
        return known

    async def bump(self, session: AsyncSession, namespace: Namespace) -> int:
        """The next version, in the caller's transaction; tell `moved` after the commit."""
        return await IndexRepository(session, namespace.tenant_id).bump(namespace.bot, self._clock)

    def moved(self, namespace: Namespace, version: int) -> None:
        self._known[namespace] = version
