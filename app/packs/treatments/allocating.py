"""The allocation agent: a run's proposals become decisions within the limits of a day.

It may be stopped at any point and asked again: what was solved is kept (`Allocation.plan`), what was written stays.
"""

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, Unavailable
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.allocation.problem import Problem, Solution
from app.packs.treatments.allocation_data import Loaded, Loader
from app.packs.treatments.allocation_plan import decode, encode
from app.packs.treatments.allocation_writing import Writer, count_states
from app.packs.treatments.capacity import BUDGET, CapacityBook, limits_of
from app.packs.treatments.catalogue import CatalogueIn, in_force
from app.packs.treatments.keeping import refuse_when_over
from app.packs.treatments.lanes import refuse_when_killed
from app.packs.treatments.models import Allocation, AllocationState, Result, ResultState, Run, RunState
from app.packs.treatments.options import usd
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.schemas_allocation import AllocationList, AllocationOut
from app.packs.treatments.stages import RunAnswered, RunAsked
from app.principal import Principal, Role, worker
from app.storage.repository import TenantRepository

REALLOCATE_JOB: Final = "treatments.reallocate"
UNDER_WAY: Final = (AllocationState.ASKED, AllocationState.WRITING)
_SEEDS: Final = 2**31

_log = structlog.get_logger(__name__)


class AllocationRepository(TenantRepository[Allocation]):
    model, noun = Allocation, "allocation"

    async def newest(self, run_id: str) -> Allocation | None:
        query = self.query(Allocation.run_id == run_id).order_by(Allocation.number.desc()).limit(1)
        row: Allocation | None = (await self.session.scalars(query)).first()
        return row

    async def as_is(self, allocation_id: str) -> Allocation:
        """As it stands now, kept from others until the transaction ends. Raises NotFound."""
        query = self.query(Allocation.id == allocation_id).with_for_update().execution_options(populate_existing=True)
        row: Allocation | None = (await self.session.scalars(query)).one_or_none()
        if row is None:
            raise self.not_found(allocation_id)
        return row


class AllocationStage:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db

    async def handle(self, asked: RunAsked) -> RunAnswered:
        """Goes on with what is under way, else begins where anything is proposed; asked again, it changes nothing.

        Raises SwitchedOff as soon as a kill switch stops it, and Unavailable where the day ends before all is written;
        asked again later, it goes on.
        """
        refuse_when_killed(self._kit, asked.tenant_id)
        async with self._db.transaction(asked.tenant_id) as session:
            run = await RunRepository(session, asked.tenant_id).find(asked.run_id)
            if run is None:
                return RunAnswered("", "The run is not there any more.")
            row = await self._current(session, run, asked.actor)
        if row is None:
            return RunAnswered("", "Nothing was proposed.")
        if row.state == AllocationState.ASKED:
            row = await self._solved(run, row)
        if row.state == AllocationState.WRITING:
            row = await self._written(run, row)
        return RunAnswered(row.id, _note(row))

    async def _current(self, session: AsyncSession, run: Run, actor: str) -> Allocation | None:
        await CapacityBook(session, run.tenant_id, self._kit.ports.clock()).line_up()
        newest = await AllocationRepository(session, run.tenant_id).newest(run.id)
        if newest is not None and newest.state == AllocationState.WRITING and newest.day != self._today():
            newest.state, newest.plan = AllocationState.FAILED, ""
            newest.report = {**newest.report, "note": "The day was over before all of it was written."}
            return add_asked(session, run, newest.number + 1, actor, self._kit)
        if newest is not None and newest.state in UNDER_WAY:
            return newest
        where = (Result.tenant_id == run.tenant_id, Result.run_id == run.id, Result.state == ResultState.PROPOSED)
        if await session.scalar(select(Result.id).where(*where).limit(1)) is None:
            return newest
        return add_asked(session, run, newest.number + 1 if newest else 1, actor, self._kit)

    def _today(self) -> date:
        return self._kit.ports.clock().date()

    async def _solved(self, run: Run, asked: Allocation) -> Allocation:
        day = self._today()
        async with self._db.transaction(run.tenant_id) as session:
            version, catalogue = await in_force(session, run.tenant_id)
            used = await CapacityBook(session, run.tenant_id, self._kit.ports.clock()).used(day)
        loaded = await Loader(self._db, run, catalogue, day).load(used)
        limit_s = self._kit.settings.treatments_solver_s
        solution = await asyncio.to_thread(_solve, loaded.problem, limit_s, run.seed % _SEEDS)
        async with self._db.transaction(run.tenant_id) as session:
            row = await AllocationRepository(session, run.tenant_id).as_is(asked.id)
            if row.state == AllocationState.ASKED:
                _fill_in(row, day, loaded, solution)
                row.problem = {**_problem(loaded.problem, catalogue), "catalogue_version": version}
        self._kit.metrics.treatments_allocation_gap.observe(max(0.0, solution.gap))
        self._kit.metrics.treatments_allocation_seconds.observe(solution.seconds)
        return row

    async def _written(self, run: Run, row: Allocation) -> Allocation:
        async with self._db.transaction(run.tenant_id) as session:
            _, catalogue = await in_force(session, run.tenant_id)
        writer = Writer(self._kit, run, row, decode(row.plan), catalogue)
        refuse_when_killed(self._kit, run.tenant_id)
        if row.report["moved"]:
            await writer.exchange()
        after: str | None = ""
        while after is not None:
            refuse_when_killed(self._kit, run.tenant_id)
            if row.day != self._today():
                raise Unavailable("The day ended before all was written: the rest is for the new day.", retry_after=1)
            after = await writer.write(after)
        return await self._finished(row)

    async def _finished(self, written: Allocation) -> Allocation:
        async with self._db.transaction(written.tenant_id) as session:
            row = await AllocationRepository(session, written.tenant_id).as_is(written.id)
            if row.state != AllocationState.WRITING:
                return row
            counts = await count_states(session, row)
            row.state, row.plan = AllocationState.DONE, ""
            row.report = {**row.report, **{state: counts.get(state, 0) for state in ("allocated", "queued", "none")}}
            about = {name: row.report[name] for name in ("allocated", "queued", "none", "moved", "not_held", "optimal")}
            about |= {"run": row.run_id, "number": row.number, "method": row.method, "feasible": row.feasible}
            about |= {"value_micros": row.value_micros, "bound_micros": row.bound_micros, "gap": row.gap}
            principal = worker(row.tenant_id)
            await self._kit.audit.record(session, principal, "treatments.allocated", row.id, about)
        _log.info("treatments_allocated", run=row.run_id, gap=row.gap, seconds=row.report["seconds"])
        return row


class Allocations:
    """What people ask of allocations."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def ask(self, session: AsyncSession, principal: Principal, run_id: str) -> AllocationOut:
        """Has a done run allocated again, by the limits and floors in force then: what is confirmed stays, what is
        only held may move, the queue is looked at anew.

        Raises Forbidden below the role 'agent', NotFound, Conflict where the run is not done, its time is over or one
        is under way, and SwitchedOff.
        """
        principal.require(Role.AGENT)
        refuse_when_killed(self._kit, principal.tenant_id)
        run = await RunRepository(session, principal.tenant_id).get(run_id)
        if run.state != RunState.DONE:
            raise Conflict(f"The run is {run.state}: it can be allocated again once it is done.", state=run.state)
        refuse_when_over(self._kit, run)
        await CapacityBook(session, principal.tenant_id, self._kit.ports.clock()).line_up()
        newest = await AllocationRepository(session, principal.tenant_id).newest(run_id)
        if newest is not None and newest.state in UNDER_WAY:
            raise Conflict(f"Allocation {newest.number} of this run is under way: wait until it is done.")
        row = add_asked(session, run, newest.number + 1 if newest else 1, principal.actor, self._kit)
        await session.flush()
        payload = {"tenant_id": row.tenant_id, "run_id": run_id, "allocation_id": row.id}
        await self._kit.jobs.enqueue(session, REALLOCATE_JOB, payload, job_id=f"{REALLOCATE_JOB}:{row.id}")
        about = {"run": run_id, "number": row.number}
        await self._kit.audit.record(session, principal, "treatments.allocation_asked", row.id, about)
        return AllocationOut.of(row)

    async def page(
        self, session: AsyncSession, principal: Principal, run_id: str, cursor: str | None, limit: int
    ) -> AllocationList:
        """Newest first. Raises NotFound for an unknown run."""
        await RunRepository(session, principal.tenant_id).get(run_id)
        rows = AllocationRepository(session, principal.tenant_id)
        page = await rows.page(Allocation.run_id == run_id, cursor=cursor, limit=limit)
        return AllocationList(items=[AllocationOut.of(row) for row in page.items], next_cursor=page.next_cursor)

    async def give_up(self, tenant_id: str, allocation_id: str, reason: str) -> str:
        """Ends one that cannot be carried out, so that another may be asked for; what it wrote stays. Its state."""
        async with self._kit.ports.db.transaction(tenant_id) as session:
            row = await AllocationRepository(session, tenant_id).as_is(allocation_id)
            if row.state in UNDER_WAY:
                row.state, row.plan = AllocationState.FAILED, ""
                row.report = {**row.report, "note": reason[:1000]}
            return row.state


def add_asked(session: AsyncSession, run: Run, number: int, actor: str, kit: Kit) -> Allocation:
    now = kit.ports.clock()
    row = Allocation(
        id=new_id("allocation"),
        tenant_id=run.tenant_id,
        created_at=now,
        run_id=run.id,
        number=number,
        day=now.date(),
        state=AllocationState.ASKED,
        plan="",
        method="",
        feasible=True,
        value_micros=0,
        bound_micros=0,
        gap=0.0,
        problem={},
        report={},
        created_by=actor,
    )
    session.add(row)
    return row


def _solve(problem: Problem, limit_s: float, seed: int) -> Solution:
    """Loads the solver's library, 5 MB, with the first allocation."""
    from app.packs.treatments.allocation.solve import solve

    return solve(problem, time_limit_s=limit_s, seed=seed)


def _fill_in(row: Allocation, day: date, loaded: Loaded, solution: Solution) -> None:
    row.day, row.state = day, AllocationState.WRITING
    row.plan = encode(loaded.plan(solution.chosen))
    row.method, row.feasible = solution.method, solution.feasible
    row.value_micros, row.bound_micros, row.gap = solution.net, round(solution.bound), solution.gap
    row.report = {
        "score_micros": solution.score,
        "optimal": solution.optimal,
        "seconds": solution.seconds,
        "core_options": solution.core_options,
        "usage": dict(solution.usage),
        "spent_micros": solution.spent_micros,
        "candidates": dict(loaded.candidates),
        "moved": loaded.moved(solution.chosen),
        "not_held": 0,
        "conflicts": [
            {
                "constraint": one.constraint,
                "needed": one.needed,
                "available": one.available,
                "sentence": one.sentence,
            }
            for one in solution.conflicts
        ],
    }


def _problem(problem: Problem, catalogue: CatalogueIn) -> Mapping[str, Any]:
    """The constraints as they were: `capacity` and `budget_micros` are what was left for this run."""
    per_day = {name: limit for name, limit in limits_of(catalogue).items() if limit is not None and name != BUDGET}
    return {
        "treatments": [treatment.name for treatment in catalogue.treatments],
        "priorities": {treatment.name: treatment.priority for treatment in catalogue.treatments},
        "capacity": dict(problem.limits.capacity),
        "per_day": per_day,
        "budget_micros": problem.limits.budget_micros,
        "budget_per_day_micros": catalogue.budget_micros,
        "per_customer": problem.limits.per_customer,
        "floors": [floor.model_dump() for floor in catalogue.floors],
        "customers": problem.customers,
        "options": problem.options,
        "fixed": int(problem.fixed.sum()),
    }


def _note(row: Allocation) -> str:
    report = row.report
    if row.state != AllocationState.DONE:
        return str(report.get("note", ""))
    found = f"Allocated {report['allocated']}, {report['queued']} wait: worth {usd(row.value_micros)} net"
    how = "the best there is" if report["optimal"] else f"by {row.method}, at most {row.gap:.2%} below the best"
    lack = " " + " ".join(one["sentence"] for one in report["conflicts"]) if report["conflicts"] else ""
    return f"{found}, {how}.{lack}"
