"""Carries out a plan: holds the units, writes the decisions, page by page, so that it may stop at any point.

A page compares what is wanted with what is there and does what is missing: done again, it does nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Table, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.pack import Kit
from app.packs.treatments.allocation_data import PAGE, elsewhere, open_results
from app.packs.treatments.allocation_plan import Plan, names_in, place_of
from app.packs.treatments.allocation_words import Words
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.customer_limits import Booking, CustomerLimits
from app.packs.treatments.holding import Choice, Holder, Wish, end
from app.packs.treatments.models import Allocation, Reservation, ReservationState, Result, ResultState, Run
from app.packs.treatments.options import Option, best_net, options_of

_RESULTS: Final = cast(Table, Result.__table__)
_SET: Final = ("state", "treatment", "net_micros", "reason", "allocation_id", "updated_at")
_CHANGE: Final = (
    update(_RESULTS)
    .where(_RESULTS.c.tenant_id == bindparam("of_tenant"), _RESULTS.c.id == bindparam("of_id"))
    .values({name: bindparam(f"to_{name}") for name in _SET})
)


@dataclass(slots=True)
class Customer:
    """One customer's result (`row`) while its page is written."""

    row: Any
    options: list[Option]
    wanted: list[str]
    has: list[str]
    drops: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def kept(self) -> list[Option]:
        """Of what the customer has, the options behind it, best first."""
        return [option for option in self.options if option.treatment in self.has]


@dataclass(slots=True)
class Done:
    """Wishes of a page that could not be had any more, and what they were worth."""

    not_held: int = 0
    lost_net: int = 0
    lost_score: int = 0


class Writer:
    """Of one allocation."""

    def __init__(self, kit: Kit, run: Run, allocation: Allocation, plan: Plan, catalogue: CatalogueIn) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._run = run
        self._allocation = allocation
        self._plan = plan
        self._catalogue = catalogue
        self._treatments: list[str] = allocation.problem["treatments"]
        self._priorities = {treatment.name: treatment.priority for treatment in catalogue.treatments}
        self._words = Words(allocation)

    async def exchange(self) -> None:
        """Lets go of the units that are to move and holds those that come for them, in one transaction.

        So nobody else takes a unit on its way. Its size is that of the change, not of the run.
        """
        async with self._db.transaction(self._run.tenant_id) as session:
            holder = self._holder(session)
            await holder.line_up()
            await self._let_go(session)
            after: str | None = ""
            while after is not None:
                page, after = await self._page(session, after)
                await self._hold(holder, page)

    async def write(self, after: str) -> str | None:
        """One page of customers after this one, in a transaction; the last of them, None at the end."""
        async with self._db.transaction(self._run.tenant_id) as session:
            holder = self._holder(session)
            await holder.line_up()
            page, last = await self._page(session, after)
            await self._drop(session, page)
            done = await self._hold(holder, page)
            await self._save(session, page, done)
            return last

    def _holder(self, session: AsyncSession) -> Holder:
        return Holder(session, self._run.tenant_id, self._catalogue, self._now(), self._kit.metrics)

    def _now(self) -> datetime:
        return self._kit.ports.clock()

    async def _page(self, session: AsyncSession, after: str) -> tuple[list[Customer], str | None]:
        rows = await open_results(session, self._run, after)
        limits = CustomerLimits(self._catalogue, self._allocation.day)
        await limits.load(session, self._run.tenant_id, [row.customer_id for row in rows], self._run.id)
        page = [found for row in rows if (found := self._customer(row, limits)) is not None]
        return page, rows[-1].customer_id if len(rows) == PAGE else None

    def _customer(self, row: Any, limits: CustomerLimits) -> Customer | None:
        """None for one whom this allocation does not decide, or has decided before it was interrupted."""
        if row.allocation_id == self._allocation.id:
            return None
        bookings: Sequence[Booking] = [one for one in limits.bookings(row.customer_id) if one.id]
        if row.state == ResultState.ALLOCATED and elsewhere(bookings, self._run.id, self._allocation.day):
            return None
        today = [one for one in bookings if one.run_id == self._run.id and one.day == self._allocation.day]
        wanted = names_in(self._plan.get(place_of(row.customer_id), 0), self._treatments)
        drops = [one.id for one in today if one.state == ReservationState.HELD and self._unwanted(one, wanted)]
        has = [one.treatment for one in today if one.id not in drops]
        return Customer(row, options_of(row.options), wanted, has, drops)

    def _unwanted(self, booking: Booking, wanted: Sequence[str]) -> bool:
        """What the catalogue does not have any more was not looked at, and stays."""
        return booking.treatment in self._treatments and booking.treatment not in wanted

    async def _let_go(self, session: AsyncSession) -> None:
        """Ends every held reservation of the run's day that the plan does not want."""
        last = ""
        while True:
            held = select(Reservation.id, Reservation.customer_id, Reservation.treatment).where(
                Reservation.tenant_id == self._run.tenant_id,
                Reservation.run_id == self._run.id,
                Reservation.state == ReservationState.HELD,
                Reservation.day == self._allocation.day,
                Reservation.id > last,
            )
            rows = (await session.execute(held.order_by(Reservation.id).limit(PAGE))).all()
            unwanted = [row.id for row in rows if not self._wants(row)]
            await self._end(session, unwanted)
            if len(rows) < PAGE:
                return
            last = rows[-1].id

    def _wants(self, row: Any) -> bool:
        if row.treatment not in self._treatments:
            return True
        return row.treatment in names_in(self._plan.get(place_of(row.customer_id or ""), 0), self._treatments)

    async def _drop(self, session: AsyncSession, page: Sequence[Customer]) -> None:
        await self._end(session, [one for customer in page for one in customer.drops])

    async def _end(self, session: AsyncSession, ids: Sequence[str]) -> None:
        if ids:
            released = ReservationState.RELEASED
            await end(session, self._run.tenant_id, ids, released, self._now(), self._kit.metrics)

    async def _hold(self, holder: Holder, page: Sequence[Customer]) -> Done:
        """Holds what the page's customers lack of what is wanted, the most valuable first."""
        lacking = [
            (self._score(option), option, customer)
            for customer in page
            for option in customer.options
            if option.treatment in customer.wanted and option.treatment not in customer.has
        ]
        lacking.sort(key=lambda one: -one[0])
        granted = await holder.hold(self._allocation.day, [self._wish(option, who) for _, option, who in lacking])
        done = Done()
        for place, (score, option, customer) in enumerate(lacking):
            if place in granted.held:
                customer.has.append(option.treatment)
                continue
            customer.refused[option.treatment] = granted.refused[place]
            done.lost_net += option.net_micros
            done.lost_score += score
            done.not_held += 1
        return done

    def _score(self, option: Option) -> int:
        return round(option.net_micros * self._priorities.get(option.treatment, 1.0))

    def _wish(self, option: Option, customer: Customer) -> Wish:
        who, run_id, allocation = customer.row.customer_id, self._run.id, self._allocation
        key = reservation_key(run_id, who, option.treatment, str(allocation.day), allocation.number)
        choice = Choice(key, option.treatment, option.cost_micros)
        return Wish((choice,), who, run_id, allocation.id)

    async def _save(self, session: AsyncSession, page: Sequence[Customer], done: Done) -> None:
        if page:
            await session.execute(_CHANGE, [self._change(customer) for customer in page])
        if done.not_held:
            row = await session.get_one(Allocation, self._allocation.id)
            row.value_micros -= done.lost_net
            lost = row.report["not_held"] + done.not_held
            score = row.report["score_micros"] - done.lost_score
            row.report = {**row.report, "not_held": lost, "score_micros": score}
            row.gap = (row.bound_micros - score) / max(1, abs(row.bound_micros))

    def _change(self, customer: Customer) -> Mapping[str, Any]:
        kept = customer.kept
        if customer.has:
            state, treatment = ResultState.ALLOCATED, kept[0].treatment if kept else customer.has[0]
            net, reason = sum(option.net_micros for option in kept), self._words.allocated(customer.has, kept)
        else:
            net, treatment = best_net(customer.options), ""
            state = ResultState.QUEUED if net > 0 else ResultState.NONE
            reason = self._words.waits(customer.options, customer.refused)
        to = (state, treatment, net, reason, self._allocation.id, self._now())
        return {
            "of_tenant": self._run.tenant_id,
            "of_id": customer.row.id,
            **{f"to_{name}": value for name, value in zip(_SET, to, strict=True)},
        }


async def count_states(session: AsyncSession, allocation: Allocation) -> dict[str, int]:
    """Results that this allocation left in each state."""
    where = (
        Result.tenant_id == allocation.tenant_id,
        Result.run_id == allocation.run_id,
        Result.allocation_id == allocation.id,
    )
    rows = await session.execute(select(Result.state, func.count()).where(*where).group_by(Result.state))
    return {row[0]: row[1] for row in rows}


def reservation_key(run_id: str, customer_id: str, treatment: str, day: str, number: int) -> str:
    """`number` is the allocation's; 0 for what the queue was given."""
    return f"run:{run_id}:{customer_id}:{treatment}:{day}:{number}"
