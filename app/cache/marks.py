"""How far each tenant wrote, in Redis, where all processes look before they read on a replica."""

from typing import Any, Final

from app.cache.connection import RedisAway, RedisLink
from app.ids import new_id
from app.principal import EVERY_TENANT
from app.storage.marks import TIMELINE_BITS, MarksAway, Unknown

# One slot of a cluster: a tenant's position, everybody's and the beginning come in one trip to one node.
PREFIX: Final = "trellis:{marks}:"
START: Final = f"{PREFIX}start"
# Positions are compared as text of one length: Lua's numbers lose the last digits of a large one.
_DIGITS: Final = 30
# What is no position sorts after all that are.
_UNKNOWN: Final = "?"
# A beginning that is not there is asked for anew: positions that were told before it was lost may lie after this one.
_RAISE: Final = f"""
local known = redis.call('GET', KEYS[1])
if not known and KEYS[1] ~= '{START}' then known = '' end
if known and known < ARGV[1] then redis.call('SET', KEYS[1], ARGV[1]) end
return 0
"""
_BEGIN: Final = """
local known = redis.call('GET', KEYS[1]) or ''
if known ~= ARGV[1] then return known end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
"""
_OWED: Final = 10_000
_REPEATED: Final = 1_000


class RedisMarks:
    """`WriteMarks` in Redis. The keys have no expiry: a policy that evicts any key (`allkeys-*`) may lose a position.

    A server that comes back empty has no beginning either: then every tenant needs what was written until that was
    noticed. What could not be told while Redis was away is told before anything is asked, and so are the last
    positions that were told before: a replica of Redis that took over may have missed them.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link.use("marks")
        self._owed: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._lost = ""
        self._timeline = 0

    async def note(self, tenant: str, position: int) -> None:
        self._owe(tenant, position)
        await self._try_to_pay()

    async def lose(self) -> None:
        self._lost = new_id("mark")
        await self._try_to_pay()

    async def needed(self, tenant: str) -> int | Unknown:
        try:
            await self._pay()
            [found] = await self._run(lambda commands: commands.mget(START, _key(tenant), _key(EVERY_TENANT)))
        except RedisAway as error:
            raise MarksAway from error
        start, *others = ("" if value is None else value.decode() for value in found)
        begun = _read(start)
        if isinstance(begun, Unknown):
            return begun
        own = (self._told.get(_key(name), 0) for name in (tenant, EVERY_TENANT))
        return max(begun, *own, *(int(value or 0) for value in others))

    async def start(self, position: int, unknown: Unknown) -> int | Unknown:
        try:
            [known] = await self._run(lambda commands: commands.eval(_BEGIN, 1, START, unknown.since, _text(position)))
        except RedisAway as error:
            raise MarksAway from error
        return _read(known.decode())

    def _owe(self, tenant: str, position: int) -> None:
        if position >> TIMELINE_BITS > self._timeline:
            # What was said of an old timeline says nothing of servers that follow the new one.
            self._timeline = position >> TIMELINE_BITS
            self._owed[START] = position
        if len(self._owed) >= _OWED and _key(tenant) not in self._owed:
            # More tenants than are worth a list: everybody waits for the last of them.
            tenant, position = EVERY_TENANT, max(position, *self._owed.values())
            self._owed.clear()
        self._owed[_key(tenant)] = max(position, self._owed.get(_key(tenant), 0))

    async def _try_to_pay(self) -> None:
        try:
            await self._pay()
        except RedisAway:
            return

    async def _pay(self) -> None:
        """Raises RedisAway."""
        owed, lost = dict(self._owed), self._lost
        if not owed and not lost:
            return

        def fill(commands: Any) -> None:
            if lost:
                commands.set(START, _UNKNOWN + lost)
            for key, position in owed.items():
                commands.eval(_RAISE, 1, key, _text(position))

        await self._run(fill)
        self._lost = "" if self._lost == lost else self._lost
        for key, position in owed.items():
            self._paid(key, position)

    def _paid(self, key: str, position: int) -> None:
        if self._owed.get(key) == position:
            del self._owed[key]
        self._told[key] = max(position, self._told.pop(key, 0))
        if len(self._told) > _REPEATED:
            del self._told[next(iter(self._told))]

    async def _run(self, fill: Any) -> list[Any]:
        try:
            return await self._link.run(fill)
        except RedisAway:
            for key, position in self._told.items():
                self._owed[key] = max(position, self._owed.get(key, 0))
            self._told.clear()
            raise


def _key(tenant: str) -> str:
    return f"{PREFIX}of:{tenant}"


def _text(position: int) -> str:
    return str(position).zfill(_DIGITS)


def _read(start: str) -> int | Unknown:
    return Unknown(start) if not start or start.startswith(_UNKNOWN) else int(start)
