"""Rate limits by tier for each key, for each user of a costly thing, and on failed authentications for each address.

The strategy is the sliding window counter of `limits` (two counters a key: O(1) memory, one round trip to Redis):
it weighs the previous window by its share that still lies inside the moving one. A user's own limits are small, and an
estimate of ten is a poor one: these keep each use's moment (`limits`' moving window) and are exact.
"""

import ipaddress
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from cachetools import LRUCache
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.storage.redis import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from app.errors import ConfigError, RateLimited
from app.principal import Principal, Tier
from app.telemetry.metrics import Metrics

_log = structlog.get_logger()

WINDOW_S = 60
COUNTERS = 65_536
REDIS_TIMEOUT_S = 0.25
REDIS_PAUSE_S = 5.0
NAMESPACE = "sliding-window-counter"
MOVING = "moving-window"
_SCHEMES = {
    "redis": "async+redis",
    "rediss": "async+rediss",
    "redis+cluster": "async+redis+cluster",
    "redis+sentinel": "async+redis+sentinel",
}


@dataclass(frozen=True, slots=True)
class RatePlan:
    """Requests a minute for one key of each tier, and failed authentications a minute for one client address."""

    per_minute: Mapping[Tier, int] = field(default_factory=lambda: {Tier.FREE: 60, Tier.STANDARD: 600, Tier.PRO: 6000})
    failures_per_minute: int = 20


@dataclass(frozen=True, slots=True)
class Allowance:
    """Where a key stands: `remaining` of `limit` requests a window; `reset_s` seconds until some come back."""

    name: str
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`RateLimit-Policy` and `RateLimit` as in draft-ietf-httpapi-ratelimit-headers-10."""
        return [
            (b"ratelimit-policy", f'"{self.name}";q={self.limit};w={WINDOW_S}'.encode()),
            (b"ratelimit", f'"{self.name}";r={self.remaining};t={self.reset_s}'.encode()),
        ]


class WindowCounters(MemoryStorage):
    """Counters and moments of this process, for the two strategies alone.

    The library's own sweeps every key on each hit (200 µs at 2,000 keys) and grows with them. The counters' keys
    carry the number of their window, so old ones are never read again: a bounded cache may simply push them out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: LRUCache[str, int] = LRUCache(COUNTERS)
        self._moments: LRUCache[str, deque[float]] = LRUCache(COUNTERS)

    async def get(self, key: str) -> int:
        return self._counts.get(key, 0)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:  # noqa: ARG002 - see the class
        self._counts[key] = count = self._counts.get(key, 0) + amount
        return count

    async def decr(self, key: str, amount: int = 1) -> int:
        self._counts[key] = count = max(0, self._counts.get(key, 0) - amount)
        return count

    def spend(self, key: str, limit: int, expiry: int) -> tuple[bool, int, float]:
        """One hit, and how the key stands then: whether it may pass, how many are left, seconds until one comes back.

        What the library's strategy tells in two steps of several awaits each (32 µs), in one.
        """
        now = time.time()
        previous_key, current_key = self.sliding_window_keys(key, expiry, now)
        previous, current = self._counts.get(previous_key, 0), self._counts.get(current_key, 0)
        ahead = expiry - now % expiry
        carried = previous * ahead / expiry
        allowed = math.floor(carried + current) + 1 <= limit
        if allowed:
            self._counts[current_key] = current = current + 1
        waits = [ahead % (expiry / previous)] if previous else []
        waits += [ahead % expiry] if current else []
        return allowed, max(0, limit - math.floor(carried + current)), min(waits, default=0.0)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        moments = self._within(key, expiry)
        if len(moments) + amount > limit:
            return False
        moments.extend([time.time()] * amount)
        self._moments[key] = moments
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:  # noqa: ARG002
        moments = self._within(key, expiry)
        return (moments[0] if moments else time.time()), len(moments)

    def _within(self, key: str, expiry: int) -> deque[float]:
        moments = self._moments.get(key) or deque()
        while moments and moments[0] <= time.time() - expiry:
            moments.popleft()
        return moments


@dataclass(frozen=True, slots=True)
class _Limiters:
    """The two strategies over one storage."""

    counting: SlidingWindowCounterRateLimiter
    moving: MovingWindowRateLimiter

    def of(self, exact: bool) -> RateLimiter:
        return self.moving if exact else self.counting


class RateLimits:
    """Counts requests in this process, or in Redis for all processes where `redis_url` is given.

    While Redis does not answer, this process counts by itself: a limit per process is better than none and
    better than refusing everybody.

    Raises ConfigError for an address that is not Redis's.
    """

    def __init__(self, metrics: Metrics, *, redis_url: str | None = None, plan: RatePlan | None = None) -> None:
        self.plan = plan or RatePlan()
        self._metrics = metrics
        self._counters = counters = WindowCounters()
        self._local = _Limiters(SlidingWindowCounterRateLimiter(counters), MovingWindowRateLimiter(counters))
        self._redis = _redis(redis_url) if redis_url else None
        self._shared = (
            _Limiters(SlidingWindowCounterRateLimiter(self._redis), MovingWindowRateLimiter(self._redis))
            if self._redis
            else None
        )
        self._shared_again = 0.0
        self._tiers = {tier: _item(amount) for tier, amount in self.plan.per_minute.items()}
        self._failures = _item(self.plan.failures_per_minute)

    async def spend(self, principal: Principal) -> tuple[bool, Allowance]:
        """Counts one request of the principal's key: whether it may go on, and where the key stands then."""
        item = self._tiers[principal.tier]
        allowed, allowance = await self._hit(item, principal.tier.value, principal.tenant_id, principal.actor)
        if not allowed:
            self._metrics.rate_limited.labels(principal.tier.value).inc()
        return allowed, allowance

    async def spend_user(self, principal: Principal, name: str, per_minute: int) -> tuple[bool, Allowance]:
        """Counts one use of `name` by the principal's user: whether it may go on, and where the user stands then.

        Of any 60 seconds, exactly `per_minute` uses are allowed.
        """
        item = RateLimitItemPerMinute(per_minute, namespace=MOVING)
        allowed, allowance = await self._hit(item, name, name, principal.tenant_id, principal.user, exact=True)
        if not allowed:
            self._metrics.rate_limited.labels(principal.tier.value).inc()
        return allowed, allowance

    async def check_failures(self, address: str) -> None:
        """Raises RateLimited where too many authentications from the address failed of late."""
        who = ("failures", client_network(address))
        try:
            allowed = await self._limiters().counting.test(self._failures, *who)
        except StorageError as error:
            allowed = await self._pause(error).counting.test(self._failures, *who)
        if not allowed:
            self._metrics.rate_limited.labels("anonymous").inc()
            raise RateLimited("Too many requests with wrong API keys came from this address.", retry_after=WINDOW_S)

    async def failed(self, address: str) -> None:
        """Counts one failed authentication."""
        await self._hit(self._failures, "failures", "failures", client_network(address))

    async def close(self) -> None:
        """Closes the connections to Redis, where there are any."""
        if self._redis is not None:
            assert isinstance(self._redis.bridge, RedispyBridge)
            client: Any = self._redis.bridge.get_connection()
            await client.aclose()

    async def _hit(self, item: RateLimitItem, name: str, *who: str, exact: bool = False) -> tuple[bool, Allowance]:
        limiters = self._limiters()
        if limiters is self._local and not exact:
            allowed, remaining, wait_s = self._counters.spend(item.key_for(*who), item.amount, item.get_expiry())
            return allowed, Allowance(name, item.amount, remaining, math.ceil(wait_s) or WINDOW_S)
        try:
            return await _hit(limiters.of(exact), item, name, who)
        except StorageError as error:
            return await _hit(self._pause(error).of(exact), item, name, who)

    def _limiters(self) -> _Limiters:
        if self._shared is None or time.monotonic() < self._shared_again:
            return self._local
        return self._shared

    def _pause(self, error: StorageError) -> _Limiters:
        self._shared_again = time.monotonic() + REDIS_PAUSE_S
        _log.warning("rate limits are counted in this process: redis does not answer", cause=repr(error.__cause__))
        return self._local


def rate_limited(allowance: Allowance) -> RateLimited:
    """The 429 of a key that has spent its allowance."""
    return RateLimited(
        f"This key may send {allowance.limit} requests a minute (tier '{allowance.name}'): "
        f"wait {allowance.reset_s} s, or ask for a higher tier.",
        retry_after=allowance.reset_s,
    )


def user_limited(allowance: Allowance) -> RateLimited:
    """The 429 of a user who has spent theirs."""
    return RateLimited(
        f"You may send {allowance.limit} requests a minute here: wait {allowance.reset_s} s.",
        retry_after=allowance.reset_s,
    )


def client_network(address: str) -> str:
    """The address itself, or the /64 network of an IPv6 one (a single client commonly has all of it)."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return address
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False).network_address)


async def _hit(limiter: RateLimiter, item: RateLimitItem, name: str, who: tuple[str, ...]) -> tuple[bool, Allowance]:
    allowed = await limiter.hit(item, *who)
    stats = await limiter.get_window_stats(item, *who)
    # At the very start of a window the library says "now" where it means the window's end.
    reset_s = math.ceil(stats.reset_time - time.time()) or WINDOW_S
    return allowed, Allowance(name, item.amount, max(0, int(stats.remaining)), reset_s)


def _item(amount: int) -> RateLimitItem:
    return RateLimitItemPerMinute(amount, namespace=NAMESPACE)


def _redis(url: str) -> RedisStorage:
    scheme, separator, rest = url.partition("://")
    if scheme not in _SCHEMES or not separator:
        raise ConfigError(f"TRELLIS_REDIS_URL must start with one of {', '.join(f'{name}://' for name in _SCHEMES)}.")
    storage = storage_from_string(
        f"{_SCHEMES[scheme]}://{rest}",
        implementation="redispy",
        wrap_exceptions=True,
        key_prefix="trellis:limits",
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
    )
    assert isinstance(storage, RedisStorage)
    return storage
