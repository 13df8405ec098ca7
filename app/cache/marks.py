"""How far each tenant wrote, in Redis, where all processes look before they read on a replica."""

from typing import Any, Final

from app.cache.connection import Fill, RedisAway, RedisLink
from app.principal import EVERY_TENANT
from app.storage.marks import MarksAway

# One slot of a cluster: a tenant's position, everybody's and the beginning come in one trip to one node.
PREFIX: Final = "trellis:{marks}:"
_START: Final = f"{PREFIX}start"
# Positions are compared as text of one length: Lua's numbers lose the last digits of a large one.
_DIGITS: Final = 20
_RAISE: Final = """
local known = redis.call('GET', KEYS[1])
if not known or known < ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return 0
"""
_OWED: Final = 10_000


class RedisMarks:
    """`WriteMarks` in Redis. The keys have no expiry: a policy that evicts any key (`allkeys-*`) may lose a position.

    A server that comes back empty has no beginning either: then every tenant needs what was written until that was
    noticed. What could not be told while Redis was away is told before anything is asked.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._owed: dict[str, int] = {}

    async def note(self, tenant: str, position: int) -> None:
        self._owe(tenant, position)
        try:
            await self._pay()
        except RedisAway:
            return

    async def needed(self, tenant: str) -> int | None:
        keys = (_START, _key(tenant), _key(EVERY_TENANT))

        def fill(pipeline: Any) -> None:
            for key in keys:
                pipeline.get(key)

        try:
            await self._pay()
            start, *known = await self._link.run(fill)
        except RedisAway as error:
            raise MarksAway from error
        return None if start is None else max(int(position) for position in (start, *known) if position is not None)

    async def start(self, position: int) -> int:
        def fill(pipeline: Any) -> None:
            pipeline.set(_START, _text(position), nx=True)
            pipeline.get(_START)

        try:
            _, start = await self._link.run(fill)
        except RedisAway as error:
            raise MarksAway from error
        return int(start)

    def _owe(self, tenant: str, position: int) -> None:
        if len(self._owed) >= _OWED and tenant not in self._owed:
            # More tenants than are worth a list: everybody waits for the last of them.
            tenant, position = EVERY_TENANT, max(position, *self._owed.values())
            self._owed.clear()
        self._owed[tenant] = max(position, self._owed.get(tenant, 0))

    async def _pay(self) -> None:
        """Raises RedisAway."""
        owed = dict(self._owed)
        if not owed:
            return
        await self._link.run(_raise(owed))
        for tenant, position in owed.items():
            if self._owed.get(tenant) == position:
                del self._owed[tenant]


def _raise(positions: dict[str, int]) -> Fill:
    def fill(pipeline: Any) -> None:
        for tenant, position in positions.items():
            pipeline.eval(_RAISE, 1, _key(tenant), _text(position))

    return fill


def _key(tenant: str) -> str:
    return f"{PREFIX}of:{tenant}"


def _text(position: int) -> str:
    return str(position).zfill(_DIGITS)
