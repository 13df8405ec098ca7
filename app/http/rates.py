"""Rate limits by tier for each key, for each user of a costly thing, and on failed authentications for each address.

A key's and an address's limits are rates (`app.cache.limits`): one number a client, in Redis or in this process. A
user's own limits are small and exact: they keep each use's moment.
"""

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from app.cache.connection import RedisLink
from app.cache.limits import Limits, LocalLimits, Rate, RedisLimits, Standing
from app.errors import RateLimited
from app.principal import Principal, Tier
from app.telemetry.metrics import Metrics

WINDOW_S = 60


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


class RateLimits:
    """Counts requests in this process, or for all processes in Redis where there is one.

    While Redis does not answer, this process counts by itself.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        redis: RedisLink | None = None,
        plan: RatePlan | None = None,
        local: LocalLimits | None = None,
    ) -> None:
        self.plan = plan or RatePlan()
        local = LocalLimits() if local is None else local
        self._metrics = metrics
        self._limits: Limits = RedisLimits(redis.use("limiter"), local) if redis else local
        self._tiers = {tier: Rate(amount, WINDOW_S) for tier, amount in self.plan.per_minute.items()}
        self._failures = Rate(self.plan.failures_per_minute, WINDOW_S)

    async def spend(self, principal: Principal) -> tuple[bool, Allowance]:
        """Counts one request of the principal's key: whether it may go on, and where the key stands then."""
        rate, tier = self._tiers[principal.tier], principal.tier.value
        standing = await self._limits.spend(("key", principal.tenant_id, principal.actor), rate)
        return self._counted(standing, principal), _allowance(tier, rate, standing)

    async def spend_user(self, principal: Principal, name: str, per_minute: int) -> tuple[bool, Allowance]:
        """Counts one use of `name` by the principal's user: whether it may go on, and where the user stands then.

        Of any 60 seconds, exactly `per_minute` uses are allowed.
        """
        rate = Rate(per_minute, WINDOW_S)
        standing = await self._limits.spend_window(("user", name, principal.tenant_id, principal.user), rate)
        return self._counted(standing, principal), _allowance(name, rate, standing)

    async def check_failures(self, address: str) -> None:
        """Raises RateLimited where too many authentications from the address failed of late."""
        standing = await self._limits.look(_failures(address), self._failures)
        if not standing.allowed:
            self._metrics.rate_limited.labels("anonymous").inc()
            raise RateLimited(
                "Too many requests with wrong API keys came from this address.", retry_after=math.ceil(standing.wait_s)
            )

    async def failed(self, address: str) -> None:
        """Counts one failed authentication."""
        await self._limits.spend(_failures(address), self._failures)

    def _counted(self, standing: Standing, principal: Principal) -> bool:
        if not standing.allowed:
            self._metrics.rate_limited.labels(principal.tier.value).inc()
        return standing.allowed


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


def _failures(address: str) -> tuple[str, str]:
    return "failures", client_network(address)


def _allowance(name: str, rate: Rate, standing: Standing) -> Allowance:
    return Allowance(name, rate.amount, standing.remaining, math.ceil(standing.wait_s))
