"""How often something may happen: counted in this process, or in Redis for all processes.

Two rules over the same two places:

- A rate is kept by the generic cell rate algorithm in its virtual scheduling form (ITU-T Recommendation I.371,
  annex A): one number a client, the theoretical arrival time of its next use. `amount` uses may come at once, and one
  more comes back every `per_s / amount` seconds, so `per_s` seconds may see nearly twice `amount`.
- A window is exact: of any `per_s` seconds, `amount` uses at most. It keeps the moment of each use, for small amounts.

Times are whole microseconds: Lua's numbers are exact up to 2**53, and both places reckon alike.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import orjson
from cachetools import LRUCache

from app.cache.connection import RedisAway, RedisLink

COUNTERS: Final = 65_536
PREFIX: Final = "trellis:limits:"

Key = tuple[str, ...]
"""What is limited, and whose it is."""

# Both scripts: where the server's clock went back (another server after a failover) time stands still until it has
# caught up, and what lies more than a window ahead is forgotten.
GCRA: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = tonumber(redis.call('GET', KEYS[1]) or 0)
if tat > now + 2 * burst then tat = 0 end
tat = math.max(tat, now)
local spent = tat + interval
if spent - now > burst then return {0, tat - now} end
if ARGV[3] == '0' then return {1, tat - now} end
redis.call('SET', KEYS[1], string.format('%.0f', spent), 'PX', math.ceil((spent - now) / 1000))
return {1, spent - now}
"""
WINDOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local window, amount = tonumber(ARGV[1]), tonumber(ARGV[2])
local last = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0)
if last > now + window then redis.call('DEL', KEYS[1]) else now = math.max(now, last) end
local first = redis.call('LINDEX', KEYS[1], 0)
while first and tonumber(first) <= now - window do
    redis.call('LPOP', KEYS[1])
    first = redis.call('LINDEX', KEYS[1], 0)
end
local used = redis.call('LLEN', KEYS[1])
if used >= amount then return {0, 0, redis.call('LINDEX', KEYS[1], used - amount) + window - now} end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {1, amount - used - 1, tonumber(first or now) + window - now}
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` uses in `per_s` seconds; both at least 1."""

    amount: int
    per_s: int = 60

    @property
    def window_us(self) -> int:
        return self.per_s * 1_000_000

    @property
    def interval_us(self) -> int:
        """Between two uses at an even pace; rounded up, so that nothing comes back too soon."""
        return -(-self.window_us // self.amount)

    @property
    def burst_us(self) -> int:
        return self.amount * self.interval_us


class Standing(NamedTuple):
    """Whether a use may go on, how many more may follow at once, and when (seconds from now) there is one more.

    After a refusal `wait_s` is when the next one is allowed.
    """

    allowed: bool
    remaining: int
    wait_s: float


class Limits(Protocol):
    """Counts uses. What is refused costs nothing."""

    async def spend(self, key: Key, rate: Rate) -> Standing:
        """One use, by rate."""

    async def look(self, key: Key, rate: Rate) -> Standing:
        """How `spend` would answer; nothing is counted."""

    async def spend_window(self, key: Key, rate: Rate) -> Standing:
        """One use, by exact window. A key belongs to one of the two rules."""


def _micros() -> int:
    return time.monotonic_ns() // 1_000


class LocalLimits:
    """`Limits` of this process: the `size` clients (for each rule) that were seen last."""

    def __init__(self, now: Callable[[], int] = _micros, *, size: int = COUNTERS) -> None:
        self._now = now
        self._arrivals: LRUCache[Key, int] = LRUCache(size)
        self._moments: LRUCache[Key, deque[int]] = LRUCache(size)

    def __len__(self) -> int:
        return len(self._arrivals) + len(self._moments)

    async def spend(self, key: Key, rate: Rate) -> Standing:
        return self._gcra(key, rate, spend=True)

    async def look(self, key: Key, rate: Rate) -> Standing:
        return self._gcra(key, rate, spend=False)

    async def spend_window(self, key: Key, rate: Rate) -> Standing:
        now, moments = self._now(), self._moments.get(key)
        if moments is None:
            moments = self._moments[key] = deque()
        while moments and moments[0] <= now - rate.window_us:
            moments.popleft()
        if len(moments) >= rate.amount:
            return Standing(False, 0, (moments[len(moments) - rate.amount] + rate.window_us - now) / 1e6)
        moments.append(now)
        return Standing(True, rate.amount - len(moments), (moments[0] + rate.window_us - now) / 1e6)

    def _gcra(self, key: Key, rate: Rate, *, spend: bool) -> Standing:
        now = self._now()
        arrival = max(self._arrivals.get(key, now), now)
        spent = arrival + rate.interval_us
        if spent - now > rate.burst_us:
            return _standing(False, arrival - now, rate)
        if not spend:
            return _standing(True, arrival - now, rate)
        self._arrivals[key] = spent
        return _standing(True, spent - now, rate)


class RedisLimits:
    """`Limits` of all processes, by Redis's own clock: one script, one key and one trip a use.

    While the key's node is away this process counts by itself: a limit for each process is better than none, and better
    than refusing everybody.
    """

    def __init__(self, link: RedisLink, local: LocalLimits) -> None:
        self._link = link
        self._local = local

    async def spend(self, key: Key, rate: Rate) -> Standing:
        try:
            return await self._gcra(key, rate, spend=1)
        except RedisAway:
            return await self._local.spend(key, rate)

    async def look(self, key: Key, rate: Rate) -> Standing:
        try:
            return await self._gcra(key, rate, spend=0)
        except RedisAway:
            return await self._local.look(key, rate)

    async def spend_window(self, key: Key, rate: Rate) -> Standing:
        try:
            allowed, remaining, wait_us = await self._eval(WINDOW, key, rate.window_us, rate.amount)
        except RedisAway:
            return await self._local.spend_window(key, rate)
        return Standing(allowed == 1, remaining, wait_us / 1e6)

    async def _gcra(self, key: Key, rate: Rate, spend: int) -> Standing:
        allowed, used_us = await self._eval(GCRA, key, rate.interval_us, rate.burst_us, spend)
        return _standing(allowed == 1, used_us, rate)

    async def _eval(self, script: str, key: Key, *numbers: int) -> list[int]:
        # The script's text each time: by its digest it costs as much, and a server that restarted has to be told anew.
        (answer,) = await self._link.run(lambda commands: commands.eval(script, 1, redis_key(key), *numbers))
        return list(answer)


def redis_key(key: Key) -> str:
    # A digest, for a user's id may be an e-mail address.
    return PREFIX + hashlib.blake2b(orjson.dumps(key), digest_size=16).hexdigest()


def _standing(allowed: bool, used_us: int, rate: Rate) -> Standing:
    """`used_us`: how far the theoretical arrival time lies ahead of now."""
    remaining = max(0, rate.burst_us - used_us) // rate.interval_us
    wait_us = used_us - (rate.amount - remaining - 1) * rate.interval_us if used_us else 0
    return Standing(allowed, remaining, wait_us / 1e6)
