"""The data agent: the customers of a chunk with what happened to them in the window, long histories made short."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.pack import Kit
from app.packs.treatments.customer_rows import parts
from app.packs.treatments.histories import CustomerSeen, HistoryBuilder, Treated, Window, events_between
from app.packs.treatments.models import Customer, Outcome, Reservation, ReservationState, Run
from app.packs.treatments.run_rows import RunRepository, is_of
from app.packs.treatments.schemas import MAX_USD, attribute_problem
from app.packs.treatments.stages import DataAnswered, DataAsked, History, SetAside
from app.packs.treatments.versions import Catalogues
from app.storage.base import MICROS

STAGE = "data"
_AT_ONCE = 200


class DataStage:
    """Handles `stages.DATA`. Reads alone: the same message again gives the same answer, as long as the rows stay."""

    def __init__(self, kit: Kit) -> None:
        self._db = kit.ports.db
        self._catalogues = Catalogues(kit)

    async def handle(self, asked: DataAsked) -> DataAnswered:
        """Raises NotFound where the run or its version of the catalogue is not there."""
        async with self._db.reading(asked.tenant_id) as session:
            run = await RunRepository(session, asked.tenant_id).get(asked.run_id)
        window = Window(run.as_of, (await self._catalogues.content(asked.tenant_id, run.catalogue_version)).window_days)
        histories: list[History] = []
        set_aside: list[SetAside] = []
        async with self._db.reading(asked.tenant_id) as session:
            customers = await _customers(session, run, asked)
            for part in parts(customers, _AT_ONCE):
                sound = [customer for customer in part if _broken(customer) is None]
                histories += await histories_of(session, run, sound, window)
                set_aside += [
                    SetAside(customer.id, STAGE, why) for customer in part if (why := _broken(customer)) is not None
                ]
        return DataAnswered(histories, set_aside)


async def histories_of(
    session: AsyncSession, run: Run, customers: Sequence[CustomerSeen], window: Window
) -> list[History]:
    """In the order of the customers."""
    ids = [customer.id for customer in customers]
    builders = {customer_id: HistoryBuilder(window) for customer_id in ids}
    async for customer_id, event in events_between(session, run.tenant_id, ids, window.since, window.until):
        builders[customer_id].add(event)
    treated = await _treated(session, run, ids)
    return [builders[customer.id].history(customer, treated[customer.id]) for customer in customers]


async def _customers(session: AsyncSession, run: Run, asked: DataAsked) -> list[CustomerSeen]:
    columns = (Customer.external_id, Customer.segment, Customer.fair_group, Customer.worth_micros, Customer.attributes)
    where = (is_of(run), Customer.id > asked.after_id, Customer.id <= asked.until_id)
    rows = await session.execute(select(Customer.id, *columns).where(*where).order_by(Customer.id))
    return [CustomerSeen(*row) for row in rows]


async def _treated(session: AsyncSession, run: Run, ids: Sequence[str]) -> defaultdict[str, Treated]:
    """From outcomes before the run's moment, and from reservations that stood confirmed when the run was made."""
    found: defaultdict[str, Treated] = defaultdict(Treated)
    successes = func.sum(case((Outcome.success, 1), else_=0))
    outcomes = (
        select(Outcome.customer_id, Outcome.treatment, func.count(), successes, func.max(Outcome.at))
        .where(Outcome.tenant_id == run.tenant_id, Outcome.customer_id.in_(ids), Outcome.at < run.as_of)
        .group_by(Outcome.customer_id, Outcome.treatment)
    )
    for customer_id, treatment, tries, taken, last in await session.execute(outcomes):
        found[customer_id].add(treatment, tries, int(taken), last)
    booked = (
        select(Reservation.customer_id, Reservation.treatment, func.max(Reservation.day))
        .where(
            Reservation.tenant_id == run.tenant_id,
            Reservation.customer_id.in_(ids),
            Reservation.state == ReservationState.CONFIRMED,
            Reservation.created_at < run.created_at,
        )
        .group_by(Reservation.customer_id, Reservation.treatment)
    )
    for customer_id, treatment, day in await session.execute(booked):
        found[customer_id or ""].was_at(treatment, datetime.combine(day, time(), UTC))
    return found


def _broken(customer: CustomerSeen) -> str | None:
    """What makes a row one that nothing can be decided about: imports refuse it, other writers may not."""
    attributes: Any = customer.attributes
    if not isinstance(attributes, dict):
        return "The attributes are no flat object: import the customer again."
    problems = (attribute_problem(name, value) for name, value in attributes.items())
    problem = next(filter(None, problems), None)
    if problem is not None:
        return f"{problem[0].upper()}{problem[1:]}: import the customer again."
    if not 0 <= customer.worth_micros <= MAX_USD * MICROS:
        return f"The worth of {customer.worth_micros / MICROS:g} USD is not between 0 and {MAX_USD:,}."
    return None
