"""What happened to customers in a window, read in bounded pages and kept in a bounded form."""

import hashlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

import orjson
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.packs.treatments.features import CONTACT, RESPONSE, WEEK_DAYS
from app.packs.treatments.models import CustomerEvent
from app.packs.treatments.stages import EventSeen, History
from app.storage.base import MICROS

PAGE: Final = 1000
KEPT: Final = 40
"""Events that stand in a history as they are; older ones are told in its summary."""
_KINDS: Final = 12
_REST: Final = "other"
_COLUMNS: Final = tuple(
    getattr(CustomerEvent, name) for name in ("customer_id", "id", "at", "kind", "channel", "amount_micros", "text")
)


@dataclass(frozen=True, slots=True)
class CustomerSeen:
    """A customer's row, as far as agents look at it."""

    id: str
    external_id: str
    segment: str
    fair_group: str
    worth_micros: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` up to but without `until`: what happens at the moment of a decision is not known to it."""

    until: datetime
    days: int

    @property
    def since(self) -> datetime:
        return self.until - timedelta(days=self.days)


class HistoryBuilder:
    """Takes a customer's events, oldest first, and holds about `KEPT` of them however many come.

    Events outside the window are passed over.
    """

    def __init__(self, window: Window) -> None:
        self._since, self._until = window.since, window.until
        self._newest: deque[EventSeen] = deque(maxlen=KEPT)
        self._older = _Older()
        self._hash = hashlib.sha256()
        self._total = self._contacted = self._responded = self._amount = 0
        self._weeks = [0] * ceil(window.days / WEEK_DAYS)
        self._first: datetime | None = None
        self._last: datetime | None = None

    def add(self, event: EventSeen) -> None:
        if not self._since <= event.at < self._until:
            return
        self._total += 1
        fields = [event.at.isoformat(), event.kind, event.channel, event.amount_micros, event.text]
        self._hash.update(orjson.dumps(fields))
        if len(self._newest) == KEPT:
            self._older.add(self._newest[0])
        self._newest.append(event)
        if event.kind == CONTACT:
            self._contacted += 1
        else:
            self._add_own(event)

    def _add_own(self, event: EventSeen) -> None:
        self._responded += event.kind == RESPONSE
        self._amount += event.amount_micros or 0
        self._first = self._first or event.at
        self._last = event.at
        # Weeks end at the moment of the decision, so that the newest is a whole one.
        back = (self._until - event.at - timedelta.resolution) // timedelta(days=WEEK_DAYS)
        self._weeks[-1 - back] += 1

    def history(self, customer: CustomerSeen, treated: "Treated") -> History:
        return History(
            customer_id=customer.id,
            external_id=customer.external_id,
            segment=customer.segment,
            fair_group=customer.fair_group,
            worth_micros=customer.worth_micros,
            attributes=customer.attributes,
            events=list(self._newest),
            summary=self._older.told(),
            total=self._total,
            digest=self._hash.hexdigest(),
            contacts=treated.last,
            tries=treated.tries,
            successes=treated.successes,
            contacted=self._contacted,
            responded=self._responded,
            weeks=self._weeks,
            first_at=self._first,
            last_at=self._last,
            amount_micros=self._amount,
        )


class Treated:
    """By treatment: how often a customer had it, how often that was a success, and when last."""

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}
        self.successes: dict[str, int] = {}
        self.last: dict[str, datetime] = {}

    def add(self, treatment: str, tries: int, successes: int, last: datetime) -> None:
        if not treatment:
            return
        self.tries[treatment] = self.tries.get(treatment, 0) + tries
        self.successes[treatment] = self.successes.get(treatment, 0) + successes
        self.was_at(treatment, last)

    def was_at(self, treatment: str, last: datetime) -> None:
        self.last[treatment] = max(last, self.last.get(treatment, last))


class _Older:
    """Events that no longer stand in full: counts and sums by kind, from when to when."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._amount: Counter[str] = Counter()
        self._first: datetime | None = None
        self._last: datetime | None = None

    def add(self, event: EventSeen) -> None:
        kind = event.kind if event.kind in self._count or len(self._count) < _KINDS else _REST
        self._count[kind] += 1
        self._amount[kind] += event.amount_micros or 0
        self._first = self._first or event.at
        self._last = event.at

    def told(self) -> str:
        if self._first is None or self._last is None:
            return ""
        kinds = sorted(self._count.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{count} x {kind}{self._sum(kind)}" for kind, count in kinds)
        return f"Before these, {self._first:%Y-%m-%d} to {self._last:%Y-%m-%d}: {told}."

    def _sum(self, kind: str) -> str:
        amount = self._amount[kind]
        return f" ({amount / MICROS:.2f} USD)" if amount else ""


async def events_between(
    session: AsyncSession, tenant_id: str, customer_ids: Collection[str], since: datetime, until: datetime
) -> AsyncIterator[tuple[str, EventSeen]]:
    """Each customer's events in the order of their time, by a page of rows at a time.

    Where a page ends inside a customer, the rest of that customer is read alone, along the index from where it ended.
    """
    left = sorted(customer_ids)
    while left:
        rows = await _page(session, tenant_id, since, until, CustomerEvent.customer_id.in_(left))
        for row in rows:
            yield row.customer_id, _seen(row)
        if len(rows) < PAGE:
            return
        last = rows[-1]
        while rows and len(rows) == PAGE:
            beyond = or_(CustomerEvent.at > last.at, and_(CustomerEvent.at == last.at, CustomerEvent.id > last.id))
            inside = and_(CustomerEvent.customer_id == last.customer_id, beyond)
            rows = await _page(session, tenant_id, last.at, until, inside)
            for row in rows:
                yield row.customer_id, _seen(row)
            last = rows[-1] if rows else last
        left = [customer_id for customer_id in left if customer_id > last.customer_id]


async def _page(session: AsyncSession, tenant_id: str, since: datetime, until: datetime, which: Any) -> Sequence[Any]:
    where = (CustomerEvent.tenant_id == tenant_id, CustomerEvent.at >= since, CustomerEvent.at < until, which)
    order = (CustomerEvent.customer_id, CustomerEvent.at, CustomerEvent.id)
    return (await session.execute(select(*_COLUMNS).where(*where).order_by(*order).limit(PAGE))).all()


def _seen(row: Any) -> EventSeen:
    return EventSeen(row.at, row.kind, row.channel, row.amount_micros, row.text)
