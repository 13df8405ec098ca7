"""What the console's pages of runs show: figures read together, as a person looks at them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.packs.treatments.catalogue import CatalogueRepository
from app.packs.treatments.models import AllocationState, Customer, Result, ResultState, RunState
from app.packs.treatments.schemas_allocation import AllocationOut
from app.packs.treatments.schemas_runs import RunOut
from app.storage.base import MICROS

MOVING: Final = (RunState.QUEUED, RunState.RUNNING, RunState.ALLOCATING)
UNTAKEN: Final = timedelta(seconds=10)
MOST_SEGMENTS: Final = 200
_UNDER_WAY: Final = (AllocationState.ASKED, AllocationState.WRITING)
RUN_KINDS: Final[Mapping[str, str]] = {
    RunState.QUEUED: "waiting",
    RunState.RUNNING: "new",
    RunState.PAUSED: "waiting",
    RunState.ALLOCATING: "new",
    RunState.DONE: "done",
    RunState.CANCELLED: "cancelled",
    RunState.FAILED: "failed",
}
"""The badge of each state of a run."""
RESULT_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    ResultState.ALLOCATED: ("gets a treatment", "done"),
    ResultState.QUEUED: ("waits for capacity", "waiting"),
    ResultState.PROPOSED: ("proposed", "new"),
    ResultState.NONE: ("nothing is worth it", "none"),
    ResultState.CONTROL: ("held back", "respond"),
    ResultState.SET_ASIDE: ("set aside", "failed"),
}
"""How each state of a customer in a run reads, and its badge."""


@dataclass(frozen=True, slots=True)
class Used:
    """Units of a treatment that an allocation gave; `limit` is what was left for it, None without one. `a_day` is the
    catalogue's, where less of it was left."""

    name: str
    given: int
    limit: int | None
    a_day: int | None

    @property
    def share(self) -> float:
        """Of the limit; 0 where nothing was left."""
        return self.given / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class FloorShown:
    """A fairness floor; `given` of the group's `options` customers with a choice got one. `options` is None where the
    floor is for one treatment."""

    group: str
    share: float
    treatment: str | None
    given: int
    options: int | None
    met: bool


def every(run: RunOut, allocations: Sequence[AllocationOut] = ()) -> int:
    """After how many seconds a page of the run asks again; 0 where nothing moves."""
    if run.state in MOVING or any(one.state in _UNDER_WAY for one in allocations):
        return 2
    return 15 if run.state == RunState.PAUSED and run.resume_at is not None else 0


def is_untaken(run: RunOut, now: datetime) -> bool:
    """Whether no worker took up a new run, long after it should have."""
    return run.state == RunState.QUEUED and run.started_at is None and now - run.created_at > UNTAKEN


def used_of(made: AllocationOut) -> list[Used]:
    """By treatment, in the catalogue's order; none before the allocation is solved."""
    limits, days = made.constraints.get("capacity", {}), made.constraints.get("per_day", {})
    names = dict.fromkeys([*made.constraints.get("treatments", ()), *made.usage])
    return [Used(name, made.usage.get(name, 0), limits.get(name), days.get(name)) for name in names]


def budget_usd(made: AllocationOut) -> float | None:
    """What was left of the day's money for the allocation; None without a budget."""
    found = made.constraints.get("budget_micros")
    return None if found is None else found / MICROS


async def titles_of(session: AsyncSession, tenant_id: str) -> Mapping[str, str]:
    """The title of each treatment by its name; none without a catalogue."""
    row = await CatalogueRepository(session, tenant_id).newest()
    return {} if row is None else {one["name"]: one["title"] for one in row.content["treatments"]}


async def count_states(session: AsyncSession, tenant_id: str, run_id: str) -> list[tuple[str, int]]:
    """Customers of a run by their state, those that there are, in the order of `RESULT_KINDS`."""
    query = select(Result.state, func.count()).where(Result.tenant_id == tenant_id, Result.run_id == run_id)
    counts = {row[0]: int(row[1]) for row in await session.execute(query.group_by(Result.state))}
    return [(state, counts[state]) for state in RESULT_KINDS if state in counts]


async def floors_of(session: AsyncSession, tenant_id: str, made: AllocationOut) -> list[FloorShown]:
    """How each floor of an allocation came out, by the results as they are now."""
    wanted = made.constraints.get("floors", [])
    if not wanted:
        return []
    missed = {name for one in made.conflicts for name in one.constraint.split(" + ")}
    given = await _given(session, tenant_id, made.run_id)
    choices = await _with_choice(session, tenant_id, made.run_id, [one["group"] for one in wanted])
    return [_floor(one["group"], one["share"], one["treatment"], missed, given, choices) for one in wanted]


def _floor(
    group: str,
    share: float,
    treatment: str | None,
    missed: Collection[str],
    given: Mapping[tuple[str, str], int],
    choices: Mapping[str, int],
) -> FloorShown:
    own = [count for (of, name), count in given.items() if of == group and treatment in (None, name)]
    met = ":".join(("floor", group, treatment or "any")) not in missed
    return FloorShown(group, share, treatment, sum(own), choices.get(group, 0) if treatment is None else None, met)


async def _given(session: AsyncSession, tenant_id: str, run_id: str) -> dict[tuple[str, str], int]:
    """Customers who got a treatment, by group and treatment."""
    query = select(Result.fair_group, Result.treatment, func.count()).where(
        Result.tenant_id == tenant_id, Result.run_id == run_id, Result.state == ResultState.ALLOCATED
    )
    rows = await session.execute(query.group_by(Result.fair_group, Result.treatment))
    return {(row[0], row[1]): int(row[2]) for row in rows}


async def _with_choice(session: AsyncSession, tenant_id: str, run_id: str, groups: Sequence[str]) -> dict[str, int]:
    """Customers of the groups who may have anything at all."""
    query = select(Result.fair_group, func.count()).where(
        Result.tenant_id == tenant_id,
        Result.run_id == run_id,
        Result.fair_group.in_(groups),
        Result.options[0]["treatment"].as_string().is_not(None),
    )
    return {row[0]: int(row[1]) for row in await session.execute(query.group_by(Result.fair_group))}


async def segments_of(session: AsyncSession, tenant_id: str) -> list[tuple[str, int]]:
    """The tenant's segments with their customers, those without one left out."""
    query = select(Customer.segment, func.count()).where(Customer.tenant_id == tenant_id, Customer.segment != "")
    rows = await session.execute(query.group_by(Customer.segment).order_by(Customer.segment).limit(MOST_SEGMENTS))
    return [(row[0], int(row[1])) for row in rows]


async def names_of(session: AsyncSession, tenant_id: str, customer_ids: Collection[str]) -> dict[str, str]:
    """The tenant's own ids of customers, by ours."""
    query = select(Customer.id, Customer.external_id).where(
        Customer.tenant_id == tenant_id, Customer.id.in_(customer_ids)
    )
    return {row[0]: row[1] for row in await session.execute(query)}
