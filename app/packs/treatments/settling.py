"""What a reservation's end means for the decision that it carried out, and for whoever waits for the unit."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import new_id
from app.jobs.engine import Jobs
from app.packs.treatments.customer_limits import LIVE
from app.packs.treatments.models import Reservation, ReservationState, Result, ResultState
from app.packs.treatments.options import best_net, options_of

FILL_JOB: Final = "treatments.fill"
_MORE_NOTE: Final = 200


async def settle(session: AsyncSession, tenant_id: str, ended: Sequence[Any], now: datetime) -> None:
    """Brings the results up to date whose reservations (rows of it) ended.

    One that expired before anybody confirmed it waits in the queue again; one that a person let go of does not come
    back by itself. Where the customer has another treatment of the run, the result stays allocated, with that.
    """
    pairs = {(row.run_id, row.customer_id): row for row in ended if row.run_id and row.customer_id}
    by_run: dict[str, list[str]] = defaultdict(list)
    for run_id, customer_id in sorted(pairs):
        by_run[run_id].append(customer_id)
    for run_id, customers in by_run.items():
        left = await live_treatments(session, tenant_id, run_id, customers)
        where = (Result.tenant_id == tenant_id, Result.run_id == run_id, Result.customer_id.in_(customers))
        for result in (await session.scalars(select(Result).where(*where))).all():
            if result.state == ResultState.ALLOCATED:
                _change(result, left.get(result.customer_id, []), pairs[(run_id, result.customer_id)], now)


async def live_treatments(
    session: AsyncSession, tenant_id: str, run_id: str, customers: Iterable[str]
) -> dict[str, list[str]]:
    """By customer: the treatments of the run that are held or confirmed for them."""
    where = (
        Reservation.tenant_id == tenant_id,
        Reservation.run_id == run_id,
        Reservation.customer_id.in_(customers),
        Reservation.state.in_(LIVE),
    )
    found: dict[str, list[str]] = defaultdict(list)
    rows = await session.execute(select(Reservation.customer_id, Reservation.treatment).where(*where))
    for row in rows:
        found[row.customer_id].append(row.treatment)
    return found


def _change(result: Result, left: Sequence[str], ended: Any, now: datetime) -> None:
    options = options_of(result.options)
    result.updated_at = now
    if left:
        kept = [option for option in options if option.treatment in left]
        result.treatment = kept[0].treatment if kept else left[0]
        result.net_micros = sum(option.net_micros for option in kept)
        return
    result.treatment, result.net_micros = "", best_net(options)
    if ended.state == ReservationState.EXPIRED:
        result.state = ResultState.QUEUED
        result.reason = f"queued again: the hold of {ended.treatment} on {ended.day} expired before it was confirmed"
    else:
        result.state = ResultState.NONE
        note = f": {ended.note[:_MORE_NOTE]}" if ended.note else ""
        result.reason = f"{ended.treatment} on {ended.day} was let go of by a person{note}"


async def offer(session: AsyncSession, jobs: Jobs, tenant_id: str, ended: Sequence[Any], now: datetime) -> None:
    """Has the units of today that came free offered to the queue, once the transaction is through."""
    freed = sorted({row.treatment for row in ended if row.day == now.date()})
    if freed:
        payload = {"tenant_id": tenant_id, "treatments": freed}
        await jobs.enqueue(session, FILL_JOB, payload, job_id=f"{FILL_JOB}:{new_id('freed')}")
