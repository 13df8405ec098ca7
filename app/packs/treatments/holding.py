"""Holding units of treatments: many wishes of one day, each granted or refused with the reason."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, cast

from sqlalchemy import Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import new_id
from app.packs.treatments.capacity import BUDGET, CapacityBook, DayUse, Room, limits_of
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.customer_limits import LIVE, Booking, CustomerLimits
from app.packs.treatments.models import Reservation, ReservationState
from app.packs.treatments.options import usd
from app.telemetry.metrics import Metrics

_ROWS = cast(Table, Reservation.__table__)
_LOOKED_UP = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """A unit of a treatment; `key` names the reservation once and for all."""

    key: str
    treatment: str
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Wish:
    """One of the choices, the first that can be had. Without a customer the unit is held for whoever comes."""

    choices: tuple[Choice, ...]
    customer_id: str | None = None
    run_id: str | None = None
    allocation_id: str | None = None
    note: str = ""


@dataclass(slots=True)
class Granted:
    """By wish (its place in the sequence): the choice that is held now, or was before; else why none is."""

    held: dict[int, Choice] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    room: Room | None = None


class Holder:
    """Grants wishes in their order, in the caller's transaction. Nothing of a tenant is held but through here."""

    def __init__(
        self, session: AsyncSession, tenant_id: str, catalogue: CatalogueIn, now: datetime, metrics: Metrics
    ) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._catalogue = catalogue
        self._now = now
        self._metrics = metrics
        self._book = CapacityBook(session, tenant_id, now)

    async def line_up(self) -> None:
        await self._book.line_up()

    async def hold(self, day: date, wishes: Sequence[Wish]) -> Granted:
        """A choice whose key is known holds nothing again: it counts as held while it lives, as refused once it ended.

        Raises Unavailable where the capacity changed under the hands, which rolls all of it back.
        """
        await self._book.line_up()
        known = await self._known([choice.key for wish in wishes for choice in wish.choices])
        customers = sorted({wish.customer_id for wish in wishes if wish.customer_id})
        limits = CustomerLimits(self._catalogue, day)
        for start in range(0, len(customers), _LOOKED_UP):
            await limits.load(self._session, self._tenant_id, customers[start : start + _LOOKED_UP])
        treatments = [choice.treatment for wish in wishes for choice in wish.choices]
        room = await self._book.open(day, treatments, limits_of(self._catalogue))
        granted = _Granting(self._tenant_id, day, self._now, self._expiry(), limits, room, known)
        found = granted.all(wishes)
        await self._book.close(day, room)
        if granted.rows:
            await self._session.execute(insert(_ROWS), granted.rows)
            self._metrics.treatments_reservations.labels(state=ReservationState.HELD).inc(len(granted.rows))
        return found

    def _expiry(self) -> datetime:
        return self._now + timedelta(hours=self._catalogue.hold_hours)

    async def _known(self, keys: Sequence[str]) -> dict[str, str]:
        """State by key."""
        found: dict[str, str] = {}
        for start in range(0, len(keys), _LOOKED_UP):
            batch = keys[start : start + _LOOKED_UP]
            query = select(_ROWS.c.key, _ROWS.c.state).where(_ROWS.c.tenant_id == self._tenant_id)
            rows = await self._session.execute(query.where(_ROWS.c.key.in_(batch)))
            found.update({row.key: row.state for row in rows})
        return found


@dataclass(slots=True)
class _Granting:
    """Wishes being granted against what is left."""

    tenant_id: str
    day: date
    now: datetime
    expires_at: datetime
    limits: CustomerLimits
    room: Room
    known: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)

    def all(self, wishes: Sequence[Wish]) -> Granted:
        granted = Granted(room=self.room)
        for place, wish in enumerate(wishes):
            why = ""
            for choice in wish.choices:
                refusal = self._refusal(wish, choice)
                if refusal is None:
                    granted.held[place] = choice
                    break
                why = why or refusal
            else:
                granted.refused[place] = why
        return granted

    def _refusal(self, wish: Wish, choice: Choice) -> str | None:
        state = self.known.get(choice.key)
        if state is not None:
            return None if state in LIVE else f"its reservation for {self.day} was {state}"
        if wish.customer_id:
            why = self.limits.refusal(wish.customer_id, choice.treatment)
            if why is not None:
                return why
        lack = self.room.lack(choice.treatment, choice.cost_micros)
        if lack is not None:
            return lack_in_words(self.room, self.day, choice.treatment, choice.cost_micros, lack)
        self._grant(wish, choice)
        return None

    def _grant(self, wish: Wish, choice: Choice) -> None:
        self.room.take(choice.treatment, choice.cost_micros)
        row = {
            "id": new_id("reservation"),
            "tenant_id": self.tenant_id,
            "created_at": self.now,
            "updated_at": self.now,
            "key": choice.key,
            "treatment": choice.treatment,
            "day": self.day,
            "customer_id": wish.customer_id,
            "run_id": wish.run_id,
            "allocation_id": wish.allocation_id,
            "state": ReservationState.HELD,
            "cost_micros": choice.cost_micros,
            "expires_at": self.expires_at,
            "note": wish.note,
        }
        self.rows.append(row)
        self.known[choice.key] = ReservationState.HELD
        if wish.customer_id:
            self.limits.note(wish.customer_id, Booking(choice.key, choice.treatment, self.day))


def lack_in_words(room: Room, day: date, treatment: str, cost_micros: int, lack: str) -> str:
    """What there is too little of, with figures: units of the treatment, or money."""
    if lack == BUDGET:
        return f"the budget of {day} has {usd(room.left(BUDGET) or 0)} left, {treatment} costs {usd(cost_micros)}"
    used = room.used.get(treatment, 0) + room.taken[treatment]
    return f"{treatment} has {used} of {room.limits.get(treatment)} units taken on {day}"


async def end(
    session: AsyncSession, tenant_id: str, ids: Sequence[str], state: ReservationState, now: datetime, metrics: Metrics
) -> Sequence[Any]:
    """Ends those of the reservations that are live, and gives their units back; the rows that it ended, in any order.

    Each ends once, whoever else tries. An expiry takes only what is still held. The caller stands in line already
    (`CapacityBook.line_up`).
    """
    live = (ReservationState.HELD,) if state is ReservationState.EXPIRED else LIVE
    which = (_ROWS.c.tenant_id == tenant_id, _ROWS.c.id.in_(ids), _ROWS.c.state.in_(live))
    change = update(_ROWS).where(*which).values(state=state, updated_at=now).returning(*_ROWS.c)
    rows = (await session.execute(change)).all()
    await CapacityBook(session, tenant_id, now).give_back(units_of(rows))
    metrics.treatments_reservations.labels(state=state).inc(len(rows))
    return rows


def units_of(reservations: Iterable[Any]) -> DayUse:
    """What they take of each day."""
    use: DayUse = Counter()
    for row in reservations:
        use[(row.day, row.treatment)] += 1
        if row.cost_micros:
            use[(row.day, BUDGET)] += row.cost_micros
    return use
