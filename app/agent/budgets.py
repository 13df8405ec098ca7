"""Caps on tokens, money and time: for one request, and for a tenant's UTC day.

A day's budget is taken before a call and settled after it. A write to the database for each call would cost
more than the rest of a turn, so a process leases a small part of the day (1 % of the cap, or what one call
needs) in one transaction and spends it in memory; leases of all processes together never pass the cap. Every
`sync_s` seconds at most what was spent is written down, and what is not needed goes back: a lease that was used since
the last time is leased anew there and then, so that no call of a tenant at work has to wait for a transaction. What a
process that died had leased comes back when the lease expires; what it spent since its last write is then not counted.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NoReturn

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent import budget_store as store
from app.agent.budget_store import Amount, DailyCaps, LeaseKey
from app.clock import Clock
from app.errors import BudgetExceeded
from app.ids import new_id
from app.principal import Principal
from app.storage.db import Database
from app.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

# A refusal by a request's own cap does not pass by waiting; a client that retries anyway shall not hammer.
REQUEST_RETRY_AFTER_S: Final = 60.0
LEASE_SHARE: Final = 100
UNCAPPED_LEASE: Final = Amount(tokens=200_000, cost_micros=1_000_000)
# Of `sync_s`: a lease is renewed in the background before a call finds it too old.
_EARLY: Final = 0.8


@dataclass(frozen=True, slots=True)
class Caps:
    """What one request may use at most, all its model calls together; None is no cap."""

    tokens: int | None = None
    cost_micros: int | None = None
    seconds: float | None = None

    def less(self, tokens: int, cost_micros: int) -> "Caps":
        """What is left after some was used; `seconds` counts from the request's start and stays."""
        return Caps(
            None if self.tokens is None else max(0, self.tokens - tokens),
            None if self.cost_micros is None else max(0, self.cost_micros - cost_micros),
            self.seconds,
        )


NO_CAPS: Final = Caps()


@dataclass(slots=True)
class Tally:
    """What model calls have used so far, those that failed too: also told where a run ends in an error."""

    tokens: int = 0
    cost_micros: int = 0


@dataclass(frozen=True, slots=True)
class DayUsage:
    """Spent on a day; reserved by calls under way and by leases not used yet."""

    spent: Amount
    reserved: Amount


class _Lease:
    """A process's part of a tenant's day: `granted` of it is in the database, the rest is in memory. `caps` and `size`
    are those of its last growth."""

    __slots__ = ("caps", "granted", "growing", "inflight", "key", "lock", "size", "spent", "synced_at")

    def __init__(self, key: LeaseKey, now: datetime) -> None:
        self.key = key
        self.caps = DailyCaps()
        self.size = Amount()
        self.granted = Amount()
        self.inflight = Amount()
        self.spent = Amount()
        self.synced_at = now
        self.lock = asyncio.Lock()
        self.growing: set[asyncio.Future[Reservation | None]] = set()

    def covers(self, need: Amount) -> bool:
        return (self.granted - self.spent - self.inflight).covers(need)

    def take(self, need: Amount) -> "Reservation":
        """Sets the amount aside for one call; `covers` is true of it."""
        self.inflight += need
        return Reservation(self, need)


@dataclass(frozen=True, slots=True)
class Reservation:
    """One call's part of a lease; give it to `Budgets.settle` exactly once."""

    lease: _Lease
    amount: Amount


class Budgets:
    """The daily budgets of all tenants, as one process sees them.

    `start` writes down and gives back in the background; `stop` does so for the last time.

    Args:
        caps_for: the caps of a principal's tenant.
        ttl: after this time a dead process's lease is free again; longer than any model call.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        caps_for: Callable[[Principal], DailyCaps],
        metrics: Metrics,
        *,
        sync_s: float = 5.0,
        ttl: timedelta = timedelta(minutes=15),
    ) -> None:
        self._db = db
        self._clock = clock
        self._caps_for = caps_for
        self._metrics = metrics
        self._sync_every = timedelta(seconds=sync_s)
        self._ttl = ttl
        self._leases: dict[tuple[str, date], _Lease] = {}
        self._background: asyncio.Task[None] | None = None

    def check_request(self, caps: Caps, tokens: int, cost_micros: int) -> None:
        """Raises BudgetExceeded where a call's estimate passes what its request may still use."""
        if caps.tokens is not None and tokens > caps.tokens:
            refuse_request(self._metrics, "cap on tokens")
        if caps.cost_micros is not None and cost_micros > caps.cost_micros:
            refuse_request(self._metrics, "cap on cost")

    async def reserve(self, principal: Principal, tokens: int, cost_micros: int) -> Reservation:
        """Takes the estimate out of the tenant's day. Raises BudgetExceeded until midnight UTC."""
        need = Amount(tokens, cost_micros)
        now = self._clock()
        lease = self._lease(principal.tenant_id, now)
        if not lease.lock.locked() and self._fresh(lease, need, now):
            return lease.take(need)
        # Cut off between the commit and the figures in memory, it would count twice: so it runs to its end.
        growing = asyncio.ensure_future(self._grow(lease, self._caps_for(principal), need))
        lease.growing.add(growing)
        growing.add_done_callback(lease.growing.discard)
        try:
            reservation = await asyncio.shield(growing)
        except asyncio.CancelledError:
            growing.add_done_callback(self._give_back)
            raise
        if reservation is None:
            self._refuse_tenant(now)
        return reservation

    def _fresh(self, lease: "_Lease", need: Amount, now: datetime) -> bool:
        return lease.covers(need) and now - lease.synced_at < self._sync_every

    def _give_back(self, growing: "asyncio.Future[Reservation | None]") -> None:
        """The reservation of a caller that went away meanwhile."""
        if not growing.cancelled() and growing.exception() is None and (reservation := growing.result()):
            self.settle(reservation, 0, 0)

    def settle(self, reservation: Reservation, tokens: int, cost_micros: int) -> None:
        """Gives the reservation back and counts what was really used, on the reservation's day."""
        reservation.lease.inflight -= reservation.amount
        reservation.lease.spent += Amount(tokens, cost_micros)

    async def usage(self, tenant_id: str, day: date | None = None) -> DayUsage:
        """The tenant's figures of a UTC day, today where None; other processes' last seconds may be missing."""
        day = day or self._clock().date()
        async with self._db.reading(tenant_id) as session:
            spent, reserved = await store.day_row(session, tenant_id, day)
        lease = self._leases.get((tenant_id, day))
        return DayUsage(spent + lease.spent if lease else spent, reserved)

    async def start(self) -> None:
        self._background = asyncio.create_task(self._keep_syncing())

    async def stop(self) -> None:
        """Writes everything down and gives every lease back."""
        if self._background is not None:
            self._background.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._background
            self._background = None
        for lease in list(self._leases.values()):
            if lease.growing:
                await asyncio.wait(set(lease.growing))
        await self._sync(keep=False)

    async def sync(self) -> None:
        """Writes down what was spent, and gives back what no call has used or held since the last time."""
        await self._sync(keep=True)

    async def _sync(self, *, keep: bool) -> None:
        for key, lease in list(self._leases.items()):
            await asyncio.shield(asyncio.ensure_future(self._renew(key, lease, keep=keep)))

    async def _keep_syncing(self) -> None:
        while True:
            await asyncio.sleep(_EARLY * self._sync_every.total_seconds())
            try:
                await self.sync()
            except Exception:
                _log.warning("budgets.sync_failed", exc_info=True)

    def _lease(self, tenant_id: str, now: datetime) -> _Lease:
        key = (tenant_id, now.date())
        lease = self._leases.get(key)
        if lease is None:
            lease = self._leases[key] = _Lease(LeaseKey(new_id("lease"), *key), now)
        return lease

    async def _grow(self, lease: _Lease, caps: DailyCaps, need: Amount) -> Reservation | None:
        """Writes down what was spent, leases more and reserves from it. None where not even one call's need is left.

        Whoever waited here while another grew the lease finds enough in it and asks the database nothing.
        """
        async with lease.lock:
            # Read together: what is settled from here on stays covered by what was in flight.
            now, key, spent, inflight = self._clock(), lease.key, lease.spent, lease.inflight
            if self._fresh(lease, need, now):
                return lease.take(need)
            async with self._db.transaction(key.tenant_id) as session:
                if not await store.count(session, key.tenant_id, key.day, spent):
                    await store.open_day(session, key.tenant_id, key.day, now)
                    await store.count(session, key.tenant_id, key.day, spent)
                await store.release_expired(session, key.tenant_id, key.day, now)
                more = await self._lease_anew(session, key, caps, inflight, (_lease_size(caps, need), need))
            lease.caps, lease.size = caps, more
            lease.granted, lease.synced_at = inflight + more, now
            lease.spent -= spent
            return lease.take(need) if more.covers(need) else None

    async def _renew(self, index: tuple[str, date], lease: _Lease, *, keep: bool) -> None:
        """Writes down what was spent. `keep`: leases as much again where anything was, and it is still that day."""
        async with lease.lock:
            now, key, spent, inflight = self._clock(), lease.key, lease.spent, lease.inflight
            used = keep and spent != Amount() and key.day == now.date()
            more = Amount()
            async with self._db.transaction(key.tenant_id) as session:
                if await store.count(session, key.tenant_id, key.day, spent):
                    sizes = (lease.size,) if used else ()
                    more = await self._lease_anew(session, key, lease.caps, inflight, sizes)
            lease.granted, lease.synced_at = inflight + more, now
            lease.spent -= spent
            if (
                not lease.growing
                and lease.granted == Amount()
                and lease.inflight == Amount()
                and lease.spent == Amount()
            ):
                self._leases.pop(index, None)

    async def _lease_anew(
        self, session: AsyncSession, key: LeaseKey, caps: DailyCaps, inflight: Amount, sizes: Sequence[Amount]
    ) -> Amount:
        """Gives back all but what is in flight, and leases the first of the sizes that the day has room for."""
        now = self._clock()
        await store.resize(session, key, inflight, now, self._ttl)
        for size in sizes:
            if await store.fits(session, key, caps, size):
                await store.resize(session, key, inflight + size, now, self._ttl)
                return size
        return Amount()

    def _refuse_tenant(self, now: datetime) -> NoReturn:
        self._metrics.budget_refusals.labels("tenant").inc()
        raise BudgetExceeded(
            "The tenant's budget for model calls is spent for today (UTC): wait for midnight, or ask an admin to "
            "raise it.",
            retry_after=_until_midnight(now),
            scope="tenant",
        )


def refuse_request(metrics: Metrics, cap: str) -> NoReturn:
    """Counts and raises BudgetExceeded for one of a request's own caps."""
    metrics.budget_refusals.labels("request").inc()
    raise BudgetExceeded(
        f"This request would pass its {cap}: shorten its input, or ask an admin to raise the cap.",
        retry_after=REQUEST_RETRY_AFTER_S,
        scope="request",
    )


def _lease_size(caps: DailyCaps, need: Amount) -> Amount:
    tokens = UNCAPPED_LEASE.tokens if caps.tokens is None else caps.tokens // LEASE_SHARE
    cost_micros = UNCAPPED_LEASE.cost_micros if caps.cost_micros is None else caps.cost_micros // LEASE_SHARE
    return Amount(max(need.tokens, tokens), max(need.cost_micros, cost_micros))


def _until_midnight(now: datetime) -> float:
    tomorrow = datetime.combine(now.date() + timedelta(days=1), time.min, tzinfo=UTC)
    return (tomorrow - now).total_seconds()
