"""Reservations: a unit of a treatment on a day is held, then confirmed, let go of, or expires."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, cast

import structlog
from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.capacity import CapacityBook
from app.packs.treatments.catalogue import CatalogueIn, in_force
from app.packs.treatments.customer_limits import LIVE
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.eligibility import refusal
from app.packs.treatments.holding import Choice, Holder, Wish, end
from app.packs.treatments.models import Customer, Reservation, ReservationState
from app.packs.treatments.schemas_allocation import ReservationIn, ReservationOut, ReservationPage
from app.packs.treatments.settling import offer, settle
from app.packs.treatments.stages import History
from app.principal import Principal, Role, worker
from app.storage.repository import TenantRepository

BATCH: Final = 200
FARTHEST: Final = timedelta(days=366)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReservationFilter:
    """None is any. `day` is a UTC day; `customer` an id of ours or the tenant's own."""

    treatment: str | None = None
    day: date | None = None
    state: ReservationState | None = None
    customer: str | None = None
    run_id: str | None = None


class ReservationRepository(TenantRepository[Reservation]):
    model, noun = Reservation, "reservation"


class Reservations:
    """Every change of state is one guarded UPDATE: it happens once, whoever else tries."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._clock = kit.ports.clock

    async def create(self, session: AsyncSession, principal: Principal, given: ReservationIn) -> ReservationOut:
        """Holds a unit. The same `key` with the same content gives the reservation that is there already.

        Raises Forbidden below the role 'agent'; InvalidInput for a treatment that is not in the catalogue, a day that
        is over or more than a year ahead, or a customer who may not have it; NotFound for an unknown customer;
        Conflict where no unit, or no budget, is left, and for a key that is another reservation's.
        """
        principal.require(Role.AGENT)
        now = self._clock()
        _, catalogue = await in_force(session, principal.tenant_id)
        day = self._day(given.day, now)
        choice = _choice(given, catalogue)
        customer = await self._customer(session, principal, given, catalogue, now)
        rows = ReservationRepository(session, principal.tenant_id)
        holder = Holder(session, principal.tenant_id, catalogue, now, self._kit.metrics)
        await holder.line_up()
        before = await rows.first(Reservation.key == choice.key)
        if before is not None:
            return _same(before, choice, given.day, customer)
        wish = Wish((choice,), customer.id if customer else None, note=given.note)
        granted = await holder.hold(day, [wish])
        if granted.refused:
            raise Conflict(f"This cannot be held: {granted.refused[0]}.")
        made = await rows.first(Reservation.key == choice.key)
        assert made is not None
        await self._record(session, principal, "treatments.reservation_held", made)
        return ReservationOut.of(made)

    async def confirm(self, session: AsyncSession, principal: Principal, reservation_id: str) -> ReservationOut:
        """A held one stays for good; one that is confirmed already is given as it is.

        Raises Forbidden below the role 'agent', NotFound, and Conflict for one that expired or was released.
        """
        principal.require(Role.AGENT)
        now = self._clock()
        held = (
            Reservation.tenant_id == principal.tenant_id,
            Reservation.id == reservation_id,
            Reservation.state == ReservationState.HELD,
            Reservation.expires_at > now,
        )
        change = update(Reservation).where(*held).values(state=ReservationState.CONFIRMED, updated_at=now)
        done = cast(CursorResult[Any], await session.execute(change)).rowcount == 1
        row = await ReservationRepository(session, principal.tenant_id).get(reservation_id)
        if not done and row.state != ReservationState.CONFIRMED:
            state = "expired" if row.state == ReservationState.HELD else row.state
            raise Conflict(f"The reservation '{row.id}' is {state}: make a new one.", state=state)
        if done:
            self._kit.metrics.treatments_reservations.labels(state=ReservationState.CONFIRMED).inc()
            await self._record(session, principal, "treatments.reservation_confirmed", row)
        return ReservationOut.of(row)

    async def release(self, session: AsyncSession, principal: Principal, reservation_id: str) -> ReservationOut:
        """Lets a unit go, which is then offered to the queue; one that is released already is given as it is.

        Raises Forbidden below the role 'agent', NotFound, and Conflict for one that expired or whose day is over.
        """
        principal.require(Role.AGENT)
        now = self._clock()
        tenant_id = principal.tenant_id
        rows = ReservationRepository(session, tenant_id)
        await CapacityBook(session, tenant_id, now).line_up()
        row = await rows.get(reservation_id)
        if row.day < now.date() and row.state in LIVE:
            raise Conflict(f"The reservation '{row.id}' was for {row.day}, which is over: it stays as it is.")
        ended = await end(session, tenant_id, [row.id], ReservationState.RELEASED, now, self._kit.metrics)
        await session.refresh(row)
        if not ended and row.state != ReservationState.RELEASED:
            raise Conflict(f"The reservation '{row.id}' is {row.state}: there is nothing to let go of.")
        if ended:
            await settle(session, tenant_id, ended, now)
            await offer(session, self._kit.jobs, tenant_id, ended, now)
            await self._record(session, principal, "treatments.reservation_released", row)
        return ReservationOut.of(row)

    async def page(
        self, session: AsyncSession, principal: Principal, wanted: ReservationFilter, cursor: str | None, limit: int
    ) -> ReservationPage:
        """Newest first. Raises NotFound for a customer who is not there."""
        where: list[ColumnElement[bool]] = []
        for column, value in (
            (Reservation.treatment, wanted.treatment),
            (Reservation.day, wanted.day),
            (Reservation.state, wanted.state),
            (Reservation.run_id, wanted.run_id),
        ):
            if value is not None:
                where.append(column == value)
        if wanted.customer is not None:
            customer = await CustomerRepository(session, principal.tenant_id).named(wanted.customer)
            where.append(Reservation.customer_id == customer.id)
        page = await ReservationRepository(session, principal.tenant_id).page(*where, cursor=cursor, limit=limit)
        return ReservationPage(items=[ReservationOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    async def expire(self) -> int:
        """Ends what nobody confirmed in time, of every tenant, and offers the units to the queue. How many.

        A tenant of whom it cannot be done keeps nobody else's from ending.
        """
        total, failed = 0, set[str]()
        while batch := await self._due(failed):
            for tenant_id in sorted(batch):
                try:
                    total += await self._expire(tenant_id, batch[tenant_id])
                except Exception:
                    _log.warning("treatments_holds_not_expired", tenant=tenant_id, exc_info=True)
                    failed.add(tenant_id)
        return total

    async def _due(self, without: Collection[str]) -> dict[str, list[str]]:
        """Ids by tenant."""
        due = select(Reservation.tenant_id, Reservation.id).where(
            Reservation.state == ReservationState.HELD,
            Reservation.expires_at <= self._clock(),
            Reservation.tenant_id.not_in(without),
        )
        found: dict[str, list[str]] = {}
        async with self._db.operator_transaction() as session:
            for row in await session.execute(due.order_by(Reservation.expires_at).limit(BATCH)):
                found.setdefault(row.tenant_id, []).append(row.id)
        return found

    async def _expire(self, tenant_id: str, ids: Sequence[str]) -> int:
        now = self._clock()
        async with self._db.transaction(tenant_id) as session:
            await CapacityBook(session, tenant_id, now).line_up()
            ended = await end(session, tenant_id, ids, ReservationState.EXPIRED, now, self._kit.metrics)
            await settle(session, tenant_id, ended, now)
            await offer(session, self._kit.jobs, tenant_id, ended, now)
            if ended:
                about = {"count": len(ended)}
                await self._kit.audit.record(
                    session, worker(tenant_id), "treatments.reservations_expired", "treatments", about
                )
        return len(ended)

    def _day(self, asked: date | None, now: datetime) -> date:
        today = now.date()
        day = asked or today
        if not today <= day <= today + FARTHEST:
            raise InvalidInput(f"'day' is from today ({today}, UTC) to a year ahead, not {day}.")
        return day

    async def _customer(
        self, session: AsyncSession, principal: Principal, given: ReservationIn, catalogue: CatalogueIn, now: datetime
    ) -> Customer | None:
        if given.customer is None:
            return None
        customer = await CustomerRepository(session, principal.tenant_id).named(given.customer)
        why = refusal(catalogue.treatment(given.treatment), _plain_history(customer), now)
        if why is not None:
            raise InvalidInput(f"The customer may not have {given.treatment}: {why}.")
        return customer

    async def _record(self, session: AsyncSession, principal: Principal, action: str, row: Reservation) -> None:
        about = {"treatment": row.treatment, "day": str(row.day), "state": row.state, "customer": row.customer_id or ""}
        await self._kit.audit.record(session, principal, action, row.id, about)


async def forget(session: AsyncSession, kit: Kit, tenant_id: str, customers: Sequence[str]) -> int:
    """Gives back what these customers hold from today on, before their rows are deleted. How many units.

    Days that are over keep their count: what was used was used.
    """
    now = kit.ports.clock()
    await CapacityBook(session, tenant_id, now).line_up()
    live = select(Reservation.id).where(
        Reservation.tenant_id == tenant_id,
        Reservation.customer_id.in_(customers),
        Reservation.state.in_(LIVE),
        Reservation.day >= now.date(),
    )
    ids = (await session.scalars(live)).all()
    ended = await end(session, tenant_id, ids, ReservationState.RELEASED, now, kit.metrics) if ids else ()
    await offer(session, kit.jobs, tenant_id, ended, now)
    return len(ended)


def _choice(given: ReservationIn, catalogue: CatalogueIn) -> Choice:
    treatment = catalogue.treatment(given.treatment)
    # A prefix of its own: no key that a person chooses is one of a run's.
    key = f"own:{given.key}" if given.key is not None else f"own:{new_id('key')}"
    return Choice(key, treatment.name, treatment.cost_micros)


def _same(before: Reservation, choice: Choice, day: date | None, customer: Customer | None) -> ReservationOut:
    asked = (choice.treatment, day or before.day, customer.id if customer else None)
    if (before.treatment, before.day, before.customer_id) != asked:
        raise Conflict("This 'key' belongs to another reservation: use a key of its own.")
    return ReservationOut.of(before)


def _plain_history(customer: Customer) -> History:
    """Enough for the rules on segments and attributes: the time between two is looked at when it is held."""
    return History(
        customer_id=customer.id,
        external_id=customer.external_id,
        segment=customer.segment,
        fair_group=customer.fair_group,
        worth_micros=customer.worth_micros,
        attributes=customer.attributes,
        events=[],
        summary="",
        total=0,
        digest="",
    )
