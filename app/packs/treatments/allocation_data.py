"""A run's open decisions as the arrays of a problem: read page by page, never held as rows."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.packs.treatments.allocation.problem import FloorLimit, Limits, Problem
from app.packs.treatments.allocation_plan import Packed, place_of
from app.packs.treatments.capacity import BUDGET, limits_of
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.customer_limits import Booking, CustomerLimits
from app.packs.treatments.models import ReservationState, Result, ResultState, Run
from app.packs.treatments.options import Option, options_of
from app.storage.db import Database

PAGE: Final = 500
OPEN: Final = (ResultState.PROPOSED, ResultState.QUEUED, ResultState.ALLOCATED)


@dataclass(slots=True)
class Columns:
    """The arrays of a problem as they grow; `places` are the customers' in a plan, `own` marks what a plan may hold."""

    places: "array[int]" = field(default_factory=lambda: array("Q"))
    groups: "array[int]" = field(default_factory=lambda: array("h"))
    customer: "array[int]" = field(default_factory=lambda: array("i"))
    treatment: "array[int]" = field(default_factory=lambda: array("h"))
    net: "array[int]" = field(default_factory=lambda: array("q"))
    score: "array[int]" = field(default_factory=lambda: array("q"))
    cost: "array[int]" = field(default_factory=lambda: array("q"))
    fixed: "array[int]" = field(default_factory=lambda: array("b"))
    own: "array[int]" = field(default_factory=lambda: array("b"))
    held: "array[int]" = field(default_factory=lambda: array("b"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """`candidates` counts the customers for whom a treatment is worth its cost."""

    problem: Problem
    columns: Columns
    candidates: Counter[str]

    def plan(self, chosen: Any) -> Packed:
        """Of a solution's `chosen`: what the run itself is to hold."""
        index = np.flatnonzero(chosen & np.frombuffer(self.columns.own, dtype=np.bool_))
        places = np.frombuffer(self.columns.places, dtype=np.uint64)[self.problem.option_customer[index]]
        return Packed.of(places, np.uint64(1) << self.problem.option_treatment[index].astype(np.uint64))

    def moved(self, chosen: Any) -> int:
        """How many units that are held now the solution does not want held."""
        return int((np.frombuffer(self.columns.held, dtype=np.bool_) & ~chosen).sum())


class Loader:
    """Loads one problem.

    Of a run's own reservations of the day, confirmed ones are fixed, held ones may be moved. Others of the day for the
    same customers are fixed too, without any value. What is held for anybody else only lessens the capacity.
    """

    def __init__(self, db: Database, run: Run, catalogue: CatalogueIn, day: date) -> None:
        self._db = db
        self._run = run
        self._catalogue = catalogue
        self._day = day
        self._columns = Columns()
        self._groups: dict[str, int] = {}
        self._floored = {floor.group for floor in catalogue.floors}
        self._treatments = {treatment.name: index for index, treatment in enumerate(catalogue.treatments)}
        self._priorities = {treatment.name: treatment.priority for treatment in catalogue.treatments}
        self._included: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()

    async def load(self, used: dict[str, int]) -> Loaded:
        """`used` is the day's use of capacity (`CapacityBook.used`), read before."""
        after: str | None = ""
        while after is not None:
            after = await self._page(after)
        return Loaded(self._problem(used), self._columns, self._candidates)

    async def _page(self, after: str) -> str | None:
        async with self._db.transaction(self._run.tenant_id) as session:
            rows = await open_results(session, self._run, after)
            bookings = CustomerLimits(self._catalogue, self._day)
            await bookings.load(session, self._run.tenant_id, [row.customer_id for row in rows], self._run.id)
        for row in rows:
            self._add(row, bookings)
        return rows[-1].customer_id if len(rows) == PAGE else None

    def _add(self, row: Any, limits: CustomerLimits) -> None:
        index = len(self._columns.places)
        self._columns.places.append(place_of(row.customer_id))
        # Groups of which no floor speaks are one: a tenant may have as many as it has customers.
        group = row.fair_group if row.fair_group in self._floored else ""
        self._columns.groups.append(self._groups.setdefault(group, len(self._groups)))
        bookings = [one for one in limits.bookings(row.customer_id) if one.id]
        if row.state == ResultState.ALLOCATED and elsewhere(bookings, self._run.id, self._day):
            return
        options = {option.treatment: option for option in options_of(row.options)}
        today = [one for one in bookings if one.day == self._day]
        self._add_booked(index, today, options)
        mine = {one.id for one in today if movable(one, self._run.id)}
        taken = {one.treatment for one in today}
        for option in options.values():
            if option.treatment not in self._treatments or option.treatment in taken:
                continue
            if limits.too_soon(row.customer_id, option.treatment, without=mine) is None:
                self._put(index, option)

    def _add_booked(self, index: int, today: Sequence[Booking], options: dict[str, Option]) -> None:
        """What the customer has today: one entry for each treatment, also where it is booked twice."""
        seen: set[str] = set()
        for one in sorted(today, key=lambda booking: (movable(booking, self._run.id), booking.run_id != self._run.id)):
            if one.treatment in seen:
                continue
            seen.add(one.treatment)
            self._included[one.treatment] += 1
            self._included[BUDGET] += one.cost_micros
            self._treatments.setdefault(one.treatment, len(self._treatments))
            own = one.run_id == self._run.id and one.treatment in self._priorities
            option = options.get(one.treatment) if own else None
            net = option.net_micros if option else 0
            booked = Option(one.treatment, net + one.cost_micros, one.cost_micros)
            held = own and movable(one, self._run.id)
            self._put(index, booked, fixed=not held, own=own, held=held)

    def _put(self, customer: int, option: Option, *, fixed: bool = False, own: bool = True, held: bool = False) -> None:
        columns = self._columns
        columns.customer.append(customer)
        columns.treatment.append(self._treatments[option.treatment])
        columns.net.append(option.net_micros)
        columns.score.append(round(option.net_micros * self._priorities.get(option.treatment, 1.0)))
        columns.cost.append(option.cost_micros)
        for flags, value in ((columns.fixed, fixed), (columns.own, own), (columns.held, held)):
            flags.append(value)
        if own and option.net_micros > 0:
            self._candidates[option.treatment] += 1

    def _problem(self, used: dict[str, int]) -> Problem:
        columns = self._columns
        return Problem(
            customers=len(columns.places),
            groups=np.frombuffer(columns.groups, dtype=np.int16),
            group_names=tuple(self._groups),
            treatments=tuple(self._treatments),
            option_customer=np.frombuffer(columns.customer, dtype=np.int32),
            option_treatment=np.frombuffer(columns.treatment, dtype=np.int16),
            option_net=np.frombuffer(columns.net, dtype=np.int64),
            option_score=np.frombuffer(columns.score, dtype=np.int64),
            option_cost=np.frombuffer(columns.cost, dtype=np.int64),
            fixed=np.frombuffer(columns.fixed, dtype=np.bool_),
            limits=self._limits(used),
        )

    def _limits(self, used: dict[str, int]) -> Limits:
        """What is left by the limits in force now, with what the problem itself holds counted as free."""
        left = {
            name: max(0, limit - used.get(name, 0) + self._included[name])
            for name, limit in limits_of(self._catalogue).items()
            if limit is not None
        }
        budget = left.pop(BUDGET, None)
        floors = tuple(FloorLimit(floor.group, floor.share, floor.treatment) for floor in self._catalogue.floors)
        return Limits(left, budget, self._catalogue.treatments_per_customer, floors)


def movable(booking: Booking, run_id: str) -> bool:
    """Whether a run's allocation may let it go again: its own, and nobody confirmed it."""
    return booking.run_id == run_id and booking.state == ReservationState.HELD


def elsewhere(bookings: Sequence[Booking], run_id: str, day: date) -> bool:
    """Whether the run has treated the customer on another day, and not on this one."""
    days = {booking.day for booking in bookings if booking.run_id == run_id}
    return bool(days) and day not in days


async def open_results(session: AsyncSession, run: Run, after: str) -> Sequence[Any]:
    """A page of the results that an allocation decides, in the order of their customers."""
    where = (
        Result.tenant_id == run.tenant_id,
        Result.run_id == run.id,
        Result.state.in_(OPEN),
        Result.customer_id > after,
    )
    columns = (
        Result.id,
        Result.customer_id,
        Result.fair_group,
        Result.state,
        Result.options,
        Result.allocation_id,
        Result.treatment,
    )
    return (await session.execute(select(*columns).where(*where).order_by(Result.customer_id).limit(PAGE))).all()
