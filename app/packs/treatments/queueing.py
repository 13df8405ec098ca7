"""The queue: customers who would have a treatment and wait for capacity, the most valuable first."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.pack import Kit
from app.packs.treatments.allocation_writing import reservation_key
from app.packs.treatments.capacity import BUDGET, CapacityBook, Room, limits_of
from app.packs.treatments.catalogue import CatalogueIn, CatalogueRepository, content_of, in_force
from app.packs.treatments.customer_limits import CustomerLimits
from app.packs.treatments.holding import Choice, Holder, Wish, lack_in_words
from app.packs.treatments.keeping import kept_since
from app.packs.treatments.lanes import PACK
from app.packs.treatments.models import Outcome, Reservation, ReservationState, Result, ResultState, Run, RunState
from app.packs.treatments.options import Option, options_of, usd
from app.packs.treatments.run_rows import ResultRepository, RunRepository
from app.packs.treatments.schemas_allocation import QueuedOut, QueueOut, WaitsFor
from app.principal import Principal, worker
from app.storage.base import MICROS

PAGE: Final = 500
_ORDER: Final = (Result.net_micros.desc(), Result.id)
_OVER: Final = (ResultState.PROPOSED, ResultState.SET_ASIDE)


class Queue:
    """A run's queue, as it is shown."""

    def __init__(self, kit: Kit) -> None:
        self._clock = kit.ports.clock

    async def page(
        self, session: AsyncSession, principal: Principal, run_id: str, cursor: str | None, limit: int
    ) -> QueueOut:
        """In order of value, each with what stands against its options today. Raises NotFound for an unknown run, or a
        cursor whose result is gone."""
        await RunRepository(session, principal.tenant_id).get(run_id)
        rows = ResultRepository(session, principal.tenant_id)
        queued = (Result.run_id == run_id, Result.state == ResultState.QUEUED)
        last = await rows.get(cursor) if cursor else None
        after = [_after(last.net_micros, last.id)] if last else []
        query = rows.query(*queued, *after).order_by(*_ORDER).limit(limit + 1)
        found: list[Result] = list((await session.scalars(query)).all())
        length = await _count(session, principal.tenant_id, *queued)
        before = length - await _count(session, principal.tenant_id, *queued, *after)
        waiting = await self._waiting(session, principal.tenant_id, found[:limit])
        items = [_shown(row, before + number, waiting[row.id]) for number, row in enumerate(found[:limit], start=1)]
        more = found[limit - 1].id if len(found) > limit else None
        return QueueOut(length=length, items=items, next_cursor=more)

    async def _waiting(
        self, session: AsyncSession, tenant_id: str, rows: Sequence[Result]
    ) -> dict[str, list[WaitsFor]]:
        """By result: its options, with what stands against each."""
        day = self._clock().date()
        _, catalogue = await in_force(session, tenant_id)
        used = await CapacityBook(session, tenant_id, self._clock()).used(day)
        room = Room(used, limits_of(catalogue))
        limits = CustomerLimits(catalogue, day)
        await limits.load(session, tenant_id, [row.customer_id for row in rows])
        known = {treatment.name for treatment in catalogue.treatments}
        return {
            row.id: [_waits(option, row.customer_id, room, limits, known) for option in options_of(row.options)]
            for row in rows
        }


def _after(net_micros: int, result_id: str) -> ColumnElement[bool]:
    """What comes behind a place in the order of the queue."""
    behind = (Result.net_micros == net_micros) & (Result.id > result_id)
    return or_(Result.net_micros < net_micros, behind)


async def _count(session: AsyncSession, tenant_id: str, *where: ColumnElement[bool]) -> int:
    counted = select(func.count()).select_from(Result).where(Result.tenant_id == tenant_id, *where)
    return int(await session.scalar(counted) or 0)


def _waits(option: Option, customer_id: str, room: Room, limits: CustomerLimits, known: Collection[str]) -> WaitsFor:
    net = option.net_micros / MICROS
    if option.treatment not in known:
        return WaitsFor(treatment=option.treatment, net_usd=net, why="the catalogue does not have it any more")
    why = limits.refusal(customer_id, option.treatment)
    lack = room.lack(option.treatment, option.cost_micros)
    if why is None and lack is not None:
        why = lack_in_words(room, limits.day, option.treatment, option.cost_micros, lack)
    return WaitsFor(treatment=option.treatment, net_usd=net, why=why or "")


def _shown(row: Result, position: int, waits_for: list[WaitsFor]) -> QueuedOut:
    return QueuedOut(
        position=position,
        customer_id=row.customer_id,
        net_usd=row.net_micros / MICROS,
        fair_group=row.fair_group,
        reason=row.reason,
        since=row.updated_at,
        waits_for=waits_for,
    )


@dataclass(slots=True)
class _Walk:
    """A walk along the queue of a tenant, from the most valuable on. `treatments` narrows what is given."""

    tenant_id: str
    day: date
    now: datetime
    catalogue: CatalogueIn
    treatments: frozenset[str]
    last: tuple[int, str] | None = None
    given: int = 0
    ended: bool = False
    gave: dict[str, int] = field(default_factory=dict)


class QueueFiller:
    """Gives what is free today to those who wait in the queues of done runs, in the order of their value.

    A customer whom a later run decided about waits no more by an earlier one, nor does one of whom an outcome of the
    run is known; what a run saw is good for the catalogue's window. Whoever let a hold expire today is passed over
    until tomorrow.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db

    async def tenants(self) -> list[str]:
        """Those with a queue, where no kill switch stops the pack."""
        async with self._db.operator_transaction() as session:
            found = await session.scalars(
                select(Result.tenant_id).where(Result.state == ResultState.QUEUED).distinct().order_by(Result.tenant_id)
            )
            return [tenant for tenant in found if not self._kit.flags.killed(PACK, tenant)]

    async def fill(self, tenant_id: str, treatments: Collection[str] | None = None) -> int:
        """How many customers got one. Given again, it gives what is free then. A kill switch ends it."""
        walk = await self._begin(tenant_id, treatments)
        while walk is not None and not walk.ended and not self._kit.flags.killed(PACK, tenant_id):
            async with self._db.transaction(tenant_id) as session:
                await self._page(session, walk)
        if walk is not None and walk.given:
            await self._record(walk)
        return walk.given if walk else 0

    async def _begin(self, tenant_id: str, treatments: Collection[str] | None) -> _Walk | None:
        now = self._kit.ports.clock()
        async with self._db.transaction(tenant_id) as session:
            row = await CatalogueRepository(session, tenant_id).newest()
        if row is None:
            return None
        catalogue = content_of(row)
        known = frozenset(treatment.name for treatment in catalogue.treatments)
        wanted = known if treatments is None else known & frozenset(treatments)
        return _Walk(tenant_id, now.date(), now, catalogue, wanted)

    async def _page(self, session: AsyncSession, walk: _Walk) -> None:
        holder = Holder(session, walk.tenant_id, walk.catalogue, walk.now, self._kit.metrics)
        await holder.line_up()
        rows = (await session.scalars(self._waiting(walk))).all()
        walk.last = (rows[-1].net_micros, rows[-1].id) if rows else None
        expired = await self._expired(session, walk, rows)
        wishes = [_wish(row, walk, expired) for row in rows]
        granted = await holder.hold(walk.day, wishes)
        for place, choice in granted.held.items():
            _allocate(rows[place], choice, walk)
        walk.given += len(granted.held)
        walk.ended = len(rows) < PAGE or all(_is_full(granted.room, name) for name in walk.treatments)

    def _waiting(self, walk: _Walk) -> Any:
        later = aliased(Result)
        overtaken = exists().where(
            later.tenant_id == walk.tenant_id,
            later.customer_id == Result.customer_id,
            later.id > Result.id,
            later.run_id != Result.run_id,
            later.state.not_in(_OVER),
        )
        over = exists().where(
            Outcome.tenant_id == walk.tenant_id,
            Outcome.customer_id == Result.customer_id,
            Outcome.run_id == Result.run_id,
        )
        where = (
            Result.tenant_id == walk.tenant_id,
            Result.state == ResultState.QUEUED,
            Run.state == RunState.DONE,
            Run.finished_at >= max(walk.now - timedelta(days=walk.catalogue.window_days), kept_since(self._kit)),
            ~overtaken,
            ~over,
        )
        after = [_after(*walk.last)] if walk.last is not None else []
        query = select(Result).join(Run, Run.id == Result.run_id).where(*where, *after)
        return query.order_by(*_ORDER).limit(PAGE)

    async def _expired(self, session: AsyncSession, walk: _Walk, rows: Sequence[Result]) -> set[tuple[str, str, str]]:
        """Run, customer and treatment of the holds for the day that expired."""
        gone = select(Reservation.run_id, Reservation.customer_id, Reservation.treatment).where(
            Reservation.tenant_id == walk.tenant_id,
            Reservation.customer_id.in_([row.customer_id for row in rows]),
            Reservation.day == walk.day,
            Reservation.state == ReservationState.EXPIRED,
        )
        return {(row.run_id or "", row.customer_id or "", row.treatment) for row in await session.execute(gone)}

    async def _record(self, walk: _Walk) -> None:
        about = {"day": str(walk.day), "given": walk.given, **walk.gave}
        async with self._db.transaction(walk.tenant_id) as session:
            principal = worker(walk.tenant_id)
            await self._kit.audit.record(session, principal, "treatments.queue_filled", PACK, about)


def _wish(row: Result, walk: _Walk, expired: Collection[tuple[str, str, str]]) -> Wish:
    """What is worth its cost, the most valuable first."""
    options = sorted(options_of(row.options), key=lambda option: -option.net_micros)
    choices = [
        Choice(
            reservation_key(row.run_id, row.customer_id, option.treatment, str(walk.day), 0),
            option.treatment,
            option.cost_micros,
        )
        for option in options
        if option.net_micros > 0
        and option.treatment in walk.treatments
        and (row.run_id, row.customer_id, option.treatment) not in expired
    ]
    return Wish(tuple(choices), row.customer_id, row.run_id, row.allocation_id)


def _allocate(row: Result, choice: Choice, walk: _Walk) -> None:
    option = next(option for option in options_of(row.options) if option.treatment == choice.treatment)
    row.state, row.treatment, row.net_micros = ResultState.ALLOCATED, choice.treatment, option.net_micros
    row.reason = f"allocated from the queue for {walk.day}: worth {usd(option.net_micros)} net"
    row.updated_at = walk.now
    walk.gave[choice.treatment] = walk.gave.get(choice.treatment, 0) + 1


def _is_full(room: Room | None, treatment: str) -> bool:
    return room is None or room.left(treatment) == 0 or room.left(BUDGET) == 0
