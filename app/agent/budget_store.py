"""The rows behind the daily budgets. Every path locks a tenant's day first, then its leases."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import BudgetLease, TenantUsage
from app.ids import new_id

_USAGE = cast(Table, TenantUsage.__table__)
_LEASES = cast(Table, BudgetLease.__table__)


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens, and money in micro-USD."""

    tokens: int = 0
    cost_micros: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens + other.tokens, self.cost_micros + other.cost_micros)

    def __sub__(self, other: "Amount") -> "Amount":
        return Amount(self.tokens - other.tokens, self.cost_micros - other.cost_micros)

    def covers(self, other: "Amount") -> bool:
        return self.tokens >= other.tokens and self.cost_micros >= other.cost_micros


@dataclass(frozen=True, slots=True)
class DailyCaps:
    """What a tenant may spend in a UTC day; None is no cap, 0 is nothing."""

    tokens: int | None = None
    cost_micros: int | None = None


@dataclass(frozen=True, slots=True)
class LeaseKey:
    """One process's part of one tenant's day."""

    id: str
    tenant_id: str
    day: date


async def open_day(session: AsyncSession, tenant_id: str, day: date, now: datetime) -> None:
    """Makes the tenant's row of the day where there is none."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    row = dialect.insert(_USAGE).values(
        id=new_id("usage"),
        tenant_id=tenant_id,
        created_at=now,
        day=day,
        tokens=0,
        cost_micros=0,
        reserved_tokens=0,
        reserved_cost_micros=0,
    )
    await session.execute(row.on_conflict_do_nothing(index_elements=["tenant_id", "day"]))


async def count(session: AsyncSession, tenant_id: str, day: date, spent: Amount) -> bool:
    """Adds to what was spent, and holds the day's row for this transaction. False where there is no such row."""
    spending = {"tokens": _USAGE.c.tokens + spent.tokens, "cost_micros": _USAGE.c.cost_micros + spent.cost_micros}
    return await _update_day(session, tenant_id, day, spending)


async def resize(session: AsyncSession, lease: LeaseKey, to: Amount, now: datetime, ttl: timedelta) -> None:
    """Sets what the lease reserves, whatever it reserved before; a lease of nothing is deleted."""
    held = await _held(session, lease.id)
    if held != to:
        await _reserve(session, lease.tenant_id, lease.day, to - (held or Amount()))
    if to == Amount():
        await session.execute(delete(_LEASES).where(_LEASES.c.id == lease.id))
        return
    values = {"tokens": to.tokens, "cost_micros": to.cost_micros, "expires_at": now + ttl}
    if held is None:
        row = {"id": lease.id, "tenant_id": lease.tenant_id, "created_at": now, "day": lease.day}
        await session.execute(insert(_LEASES).values(**row, **values))
    else:
        await session.execute(update(_LEASES).where(_LEASES.c.id == lease.id).values(**values))


async def fits(session: AsyncSession, lease: LeaseKey, caps: DailyCaps, more: Amount) -> bool:
    """Whether the day has room for that much more. Call after `count`, which holds the row."""
    row = (
        await session.execute(
            select(
                _USAGE.c.tokens + _USAGE.c.reserved_tokens, _USAGE.c.cost_micros + _USAGE.c.reserved_cost_micros
            ).where(_USAGE.c.tenant_id == lease.tenant_id, _USAGE.c.day == lease.day)
        )
    ).one()
    tokens, cost_micros = row[0] + more.tokens, row[1] + more.cost_micros
    return (caps.tokens is None or tokens <= caps.tokens) and (
        caps.cost_micros is None or cost_micros <= caps.cost_micros
    )


async def release_expired(session: AsyncSession, tenant_id: str, day: date, now: datetime) -> None:
    """Gives back what dead processes had reserved on the day, and forgets their leases of earlier days."""
    lease = _LEASES.c
    expired = delete(_LEASES).where(lease.tenant_id == tenant_id, lease.expires_at <= now)
    today = await session.execute(expired.where(lease.day == day).returning(lease.tokens, lease.cost_micros))
    for tokens, cost_micros in today.all():
        await _reserve(session, tenant_id, day, Amount(-tokens, -cost_micros))
    await session.execute(expired.where(lease.day < day - timedelta(days=1)))


async def day_row(session: AsyncSession, tenant_id: str, day: date) -> tuple[Amount, Amount]:
    """What was spent on the day, and what is reserved."""
    query = select(TenantUsage).where(TenantUsage.tenant_id == tenant_id, TenantUsage.day == day)
    row = (await session.scalars(query)).one_or_none()
    if row is None:
        return Amount(), Amount()
    return Amount(row.tokens, row.cost_micros), Amount(row.reserved_tokens, row.reserved_cost_micros)


async def _held(session: AsyncSession, lease_id: str) -> Amount | None:
    query = select(_LEASES.c.tokens, _LEASES.c.cost_micros).where(_LEASES.c.id == lease_id).with_for_update()
    row = (await session.execute(query)).one_or_none()
    return Amount(*row) if row else None


async def _reserve(session: AsyncSession, tenant_id: str, day: date, more: Amount) -> None:
    usage = _USAGE.c
    reserving = {
        "reserved_tokens": usage.reserved_tokens + more.tokens,
        "reserved_cost_micros": usage.reserved_cost_micros + more.cost_micros,
    }
    await _update_day(session, tenant_id, day, reserving)


async def _update_day(session: AsyncSession, tenant_id: str, day: date, values: dict[str, Any]) -> bool:
    change = update(_USAGE).where(_USAGE.c.tenant_id == tenant_id, _USAGE.c.day == day).values(**values)
    return cast(CursorResult[Any], await session.execute(change)).rowcount == 1
