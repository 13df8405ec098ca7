"""Runs as people handle them. Every method works inside the caller's transaction and never commits."""

import secrets
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict, InvalidInput
from app.ids import new_id
from app.pack import Kit
from app.packs.treatments.catalogue import in_force
from app.packs.treatments.keeping import refuse_when_over
from app.packs.treatments.lanes import Lanes
from app.packs.treatments.members import Members
from app.packs.treatments.models import Customer, Run, RunState
from app.packs.treatments.run_rows import ChunkRepository, RunRepository, is_of
from app.packs.treatments.schemas_runs import ResumeIn, RunIn, RunOptions, RunOut, RunPage
from app.packs.treatments.windows import Window
from app.principal import Principal, Role
from app.storage.base import micros

LISTED: Final[dict[str, Any]] = {"listed": True}
MOST_UNDER_WAY: Final = 20
"""Runs of a tenant that have not ended: workers look at each of them every minute."""
_STOPPED: Final = (RunState.PAUSED, RunState.CANCELLED, RunState.FAILED)


class RunService:
    """Several runs of a tenant may be under way: the one of higher priority is worked on first."""

    def __init__(self, kit: Kit, lanes: Lanes) -> None:
        self._kit = kit
        self._lanes = lanes

    async def create(self, session: AsyncSession, principal: Principal, body: RunIn) -> RunOut:
        """Raises Forbidden, Conflict where many runs are under way, and InvalidInput without a catalogue, or where
        there are no such customers."""
        if body.customers is not None:
            return await self.create_of(session, principal, body, body.customers)
        scope = {"all": True} if body.segment is None else {"segment": body.segment}
        return await self._begin(session, principal, await self._new(session, principal, body, scope))

    async def create_of(
        self, session: AsyncSession, principal: Principal, options: RunOptions, external_ids: Iterable[str]
    ) -> RunOut:
        """A run over a list, which may be long. Raises as `create`, and InvalidInput for customers not known."""
        run = await self._new(session, principal, options, LISTED)
        if not await Members(session, run).add_all(external_ids):
            raise InvalidInput("The list names no customer: send at least one external_id.")
        return await self._begin(session, principal, run)

    async def get(self, session: AsyncSession, principal: Principal, run_id: str) -> RunOut:
        """Raises NotFound."""
        return await self._out(session, await RunRepository(session, principal.tenant_id).get(run_id))

    async def page(
        self, session: AsyncSession, principal: Principal, state: RunState | None, cursor: str | None, limit: int
    ) -> RunPage:
        where = [Run.state == state] if state is not None else []
        page = await RunRepository(session, principal.tenant_id).page(*where, cursor=cursor, limit=limit)
        return RunPage(items=[await self._out(session, run) for run in page.items], next_cursor=page.next_cursor)

    async def pause(self, session: AsyncSession, principal: Principal, run_id: str) -> RunOut:
        """Nothing more is taken up until a person resumes it; what is under way is finished and kept.

        Raises Forbidden, NotFound, and Conflict for a run that has ended or is being allocated.
        """
        run = await self._locked(session, principal, run_id)
        if run.state not in (RunState.QUEUED, RunState.RUNNING, RunState.PAUSED):
            raise Conflict(f"The run '{run.id}' is {run.state}: only one that is queued or running can be paused.")
        self._lanes.pause(run, f"Paused by {principal.actor}.", None)
        return await self._recorded(session, principal, run, "treatments.run_paused")

    async def cancel(self, session: AsyncSession, principal: Principal, run_id: str) -> RunOut:
        """Ends the run; what was decided stays, and a cancelled run may be resumed.

        Raises Forbidden, NotFound, and Conflict for a run that has ended or is being allocated.
        """
        run = await self._locked(session, principal, run_id)
        if run.state == RunState.CANCELLED:
            return await self._out(session, run)
        if run.state not in (RunState.QUEUED, RunState.RUNNING, RunState.PAUSED):
            raise Conflict(f"The run '{run.id}' is {run.state}: it can be cancelled while it is queued, running or "
                           "paused.")  # fmt: skip
        self._lanes.move(run, RunState.CANCELLED, f"Cancelled by {principal.actor}.")
        return await self._recorded(session, principal, run, "treatments.run_cancelled")

    async def resume(self, session: AsyncSession, principal: Principal, run_id: str, body: ResumeIn) -> RunOut:
        """A paused, cancelled or failed run goes on where it stopped: nobody is decided twice.

        Raises Forbidden, NotFound, and Conflict for any other run, one that has cost what it may, or whose time is
        over.
        """
        run = await self._locked(session, principal, run_id)
        if run.state not in _STOPPED:
            raise Conflict(f"The run '{run.id}' is {run.state}: only a paused, cancelled or failed one is resumed.")
        refuse_when_over(self._kit, run)
        if body.max_cost_usd is not None:
            run.max_cost_micros = micros(body.max_cost_usd)
        if body.window is not None:
            Window.parse(body.window)
            run.window = body.window
        if run.max_cost_micros is not None and run.cost_micros >= run.max_cost_micros:
            raise Conflict(f"The run '{run.id}' has cost what it may: resume it with a higher max_cost_usd.")
        await self._lanes.queue(session, run)
        return await self._recorded(session, principal, run, "treatments.run_resumed")

    async def _new(
        self, session: AsyncSession, principal: Principal, options: RunOptions, scope: dict[str, Any]
    ) -> Run:
        principal.require(Role.AGENT)
        if await RunRepository(session, principal.tenant_id).under_way() >= MOST_UNDER_WAY:
            raise Conflict(f"{MOST_UNDER_WAY} runs have not ended yet: wait for one of them, or cancel one.")
        version, catalogue = await in_force(session, principal.tenant_id)
        now = self._kit.ports.clock()
        share = catalogue.control_share if options.control_share is None else options.control_share
        run = Run(
            id=new_id("run"),
            created_at=now,
            created_by=principal.actor,
            state=RunState.QUEUED,
            scope=scope,
            priority=options.priority,
            window=options.window,
            seed=secrets.randbits(53) if options.seed is None else options.seed,
            control_share=share,
            max_cost_micros=micros(options.max_cost_usd),
            catalogue_version=version,
            allocate=options.allocate,
            as_of=options.as_of or now,
        )
        RunRepository(session, principal.tenant_id).add(run)
        await session.flush()
        return run

    async def _begin(self, session: AsyncSession, principal: Principal, run: Run) -> RunOut:
        """Raises InvalidInput where the run has nobody to be over."""
        if not await session.scalar(select(Customer.id).where(is_of(run)).limit(1)):
            raise InvalidInput(
                f"There is no customer in the segment '{run.scope['segment']}'."
                if "segment" in run.scope
                else "There are no customers yet: import them with POST /v1/treatments/customers."
            )
        await self._lanes.queue(session, run)
        return await self._recorded(session, principal, run, "treatments.run_created")

    async def _locked(self, session: AsyncSession, principal: Principal, run_id: str) -> Run:
        principal.require(Role.AGENT)
        runs = RunRepository(session, principal.tenant_id)
        run = await runs.locked(run_id)
        if run is None:
            raise runs.not_found(run_id)
        return run

    async def _recorded(self, session: AsyncSession, principal: Principal, run: Run, action: str) -> RunOut:
        out = await self._out(session, run)
        about = {"state": run.state, "finished": run.finished, "priority": run.priority}
        await self._kit.audit.record(session, principal, action, run.id, about)
        return out

    async def _out(self, session: AsyncSession, run: Run) -> RunOut:
        works = run.state == RunState.RUNNING
        rate = await ChunkRepository(session, run.tenant_id).rate(run) if works else None
        return RunOut.of(run, rate, self._kit.ports.clock())
