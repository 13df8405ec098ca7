"""The console's pages of runs: started, watched while they work, steered, and what they decided."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.errors import InvalidInput
from app.pack import Kit
from app.packs.treatments.allocating import Allocations
from app.packs.treatments.api_results import csv_file, parquet_file
from app.packs.treatments.catalogue import CatalogueRepository, in_force
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.days import day_as_it_is
from app.packs.treatments.evaluating import EvaluationStage
from app.packs.treatments.lanes import PACK
from app.packs.treatments.models import ResultState, RunState
from app.packs.treatments.page_views import (
    RESULT_KINDS,
    RUN_KINDS,
    budget_usd,
    count_states,
    every,
    floors_of,
    is_untaken,
    names_of,
    segments_of,
    titles_of,
    used_of,
)
from app.packs.treatments.queueing import Queue
from app.packs.treatments.results import ResultFilter, Results
from app.packs.treatments.run_view import UNTAKEN, scope_in_words
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_runs import ResumeIn, RunIn, RunOut
from app.principal import Principal, Role
from app.web.forms import read_form
from app.web.paging import query_of
from app.web.places import BASE
from app.web.shell import ConsolePrincipal, CurrentShell

TREATMENTS: Final = f"{BASE}/{PACK}"
PAGE: Final = 50
QUEUE_SHOWN: Final = 10
ALLOCATIONS_SHOWN: Final = 10
Cursor = Annotated[str | None, Query(max_length=64)]
Word = Annotated[str, Query(max_length=60)]
Steer = Callable[[AsyncSession, Principal, str], Awaitable[object]]


class RunForm(BaseModel):
    """A run as a person asks for it; `segment` left out is all customers, `control_percent` the catalogue's share."""

    model_config = ConfigDict(extra="forbid")

    segment: str | None = Field(None, max_length=60)
    max_cost_usd: float | None = Field(None, gt=0, le=1_000_000)
    window: str = Field("", max_length=11)
    priority: int = Field(0, ge=0, le=9)
    control_percent: float | None = Field(None, ge=0, le=100)

    def run(self) -> RunIn:
        """Raises InvalidInput for a window that is none."""
        share = None if self.control_percent is None else self.control_percent / 100
        given = self.model_dump(exclude={"control_percent"})
        return RunIn(all=self.segment is None, control_share=share, **given)


def add_runs(routes: APIRouter, kit: Kit, service: RunService) -> None:
    _add_list(routes, kit, service)
    _add_start(routes, kit, service)
    _add_run(routes, kit, service)
    _add_steering(routes, kit, service)
    _add_results(routes, kit)


def _add_list(routes: APIRouter, kit: Kit, service: RunService) -> None:
    @routes.get("")
    async def list_runs(
        request: Request, shell: CurrentShell, principal: ConsolePrincipal, state: Word = "", cursor: Cursor = None
    ) -> Response:
        values = await _runs(kit, service, principal, state, cursor)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            known = await CustomerRepository(session, principal.tenant_id).first() is not None
            catalogue = await CatalogueRepository(session, principal.tenant_id).newest()
            day = await day_as_it_is(session, kit, principal, None) if catalogue else None
            titles = await titles_of(session, principal.tenant_id)
        states = list(RunState)
        return shell.page(request, "treatments/runs.html", known=known, day=day, titles=titles, states=states, **values)

    @routes.get("/live")
    async def live_part(
        request: Request, shell: CurrentShell, principal: ConsolePrincipal, state: Word = "", cursor: Cursor = None
    ) -> Response:
        values = await _runs(kit, service, principal, state, cursor)
        return shell.page(request, "treatments/runs_live.html", **values)


async def _runs(kit: Kit, service: RunService, principal: Principal, state: str, cursor: str | None) -> dict[str, Any]:
    """The part of the list that moves while a run does."""
    if state and state not in set(RunState):
        raise InvalidInput(f"A run's state is one of {', '.join(RunState)}.")
    async with kit.ports.db.reading(principal.tenant_id) as session:
        found = await service.page(session, principal, RunState(state) if state else None, cursor, PAGE)
    wanted = {"state": state}
    return {
        "runs": found.items,
        "kinds": RUN_KINDS,
        "over": scope_in_words,
        "state": state,
        "stopped": kit.flags.killed(PACK, principal.tenant_id),
        "every": min((pause for run in found.items if (pause := every(run))), default=0),
        "cursor": cursor,
        "here": query_of(wanted, cursor or ""),
        "first": query_of(wanted),
        "more": query_of(wanted, found.next_cursor) if found.next_cursor else None,
    }


def _add_start(routes: APIRouter, kit: Kit, service: RunService) -> None:
    @routes.get("/runs/new")
    async def new_run(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        principal.require(Role.AGENT)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            segments = await segments_of(session, principal.tenant_id)
            _, catalogue = await in_force(session, principal.tenant_id)
        return shell.page(request, "treatments/new_run.html", segments=segments, catalogue=catalogue)

    @routes.post("/runs/new")
    async def start_run(request: Request, principal: ConsolePrincipal) -> Response:
        form = await read_form(request, RunForm)
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            run = await service.create(session, principal, form.run())
        return RedirectResponse(f"{TREATMENTS}/runs/{run.id}", 303)


def _add_run(routes: APIRouter, kit: Kit, service: RunService) -> None:
    @routes.get("/runs/{run_id}")
    async def show_run(request: Request, shell: CurrentShell, principal: ConsolePrincipal, run_id: str) -> Response:
        values = await _run(kit, service, principal, run_id)
        return shell.page(request, "treatments/run.html", **values)

    @routes.get("/runs/{run_id}/live")
    async def live_part(request: Request, shell: CurrentShell, principal: ConsolePrincipal, run_id: str) -> Response:
        values = await _run(kit, service, principal, run_id)
        return shell.page(request, "treatments/run_live.html", **values)


async def _run(kit: Kit, service: RunService, principal: Principal, run_id: str) -> dict[str, Any]:
    tenant_id = principal.tenant_id
    async with kit.ports.db.reading(principal.tenant_id) as session:
        run = await service.get(session, principal, run_id)
        made = await Allocations(kit).page(session, principal, run_id, None, ALLOCATIONS_SHOWN)
        states = await count_states(session, tenant_id, run_id)
        titles = await titles_of(session, tenant_id)
        ended = await _ended(session, kit, principal, run) if run.state == RunState.DONE else {"queue": None}
        floors = await floors_of(session, tenant_id, made.items[0]) if made.items else []
    return {
        "run": run,
        "over": scope_in_words(run.scope),
        "kinds": RUN_KINDS,
        "results": RESULT_KINDS,
        "states": states,
        "titles": titles,
        "allocation": made.items[0] if made.items else None,
        "earlier": made.items[1:],
        "used": used_of(made.items[0]) if made.items else [],
        "budget": budget_usd(made.items[0]) if made.items else None,
        "floors": floors,
        "every": every(run, made.items),
        "untaken": UNTAKEN if is_untaken(run, kit.ports.clock()) else "",
        "stopped": kit.flags.killed(PACK, tenant_id),
        **ended,
    }


async def _ended(session: AsyncSession, kit: Kit, principal: Principal, run: RunOut) -> dict[str, Any]:
    """What there is to say of a run once it is done."""
    queue = await Queue(kit).page(session, principal, run.id, None, QUEUE_SHOWN)
    names = await names_of(session, principal.tenant_id, [one.customer_id for one in queue.items])
    evaluation = await EvaluationStage(kit).show(session, principal, run.id)
    return {"queue": queue, "names": names, "evaluation": evaluation}


def _add_steering(routes: APIRouter, kit: Kit, service: RunService) -> None:
    def steered_by(name: str, steer: Steer) -> None:
        @routes.post(f"/runs/{{run_id}}/{name}", name=f"{name}_run")
        async def change(principal: ConsolePrincipal, run_id: str) -> Response:
            async with kit.ports.db.transaction(principal.tenant_id) as session:
                await steer(session, principal, run_id)
            return RedirectResponse(f"{TREATMENTS}/runs/{run_id}", 303)

    steered_by("pause", service.pause)
    steered_by("cancel", service.cancel)
    steered_by("allocate", Allocations(kit).ask)

    @routes.post("/runs/{run_id}/resume")
    async def resume_run(request: Request, principal: ConsolePrincipal, run_id: str) -> Response:
        body = await read_form(request, ResumeIn)
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            await service.resume(session, principal, run_id, body)
        return RedirectResponse(f"{TREATMENTS}/runs/{run_id}", 303)


def _add_results(routes: APIRouter, kit: Kit) -> None:
    db = kit.ports.db

    @routes.get("/runs/{run_id}/results")
    async def list_results(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        run_id: str,
        state: Word = "",
        treatment: Word = "",
        cursor: Cursor = None,
    ) -> Response:
        async with db.reading(principal.tenant_id) as session:
            chosen = ResultFilter(_result_state(state), treatment or None)
            found = await Results(session, principal.tenant_id).page(run_id, chosen, cursor, PAGE)
            titles = await titles_of(session, principal.tenant_id)
        wanted = {"state": state, "treatment": treatment}
        return shell.page(
            request,
            "treatments/results.html",
            run_id=run_id,
            items=found.items,
            titles=titles,
            results=RESULT_KINDS,
            wanted=wanted,
            cursor=cursor,
            first=query_of(wanted),
            more=query_of(wanted, found.next_cursor) if found.next_cursor else None,
        )

    @routes.get("/runs/{run_id}/results.csv")
    async def results_csv(principal: ConsolePrincipal, run_id: str) -> Response:
        return await csv_file(db, principal, run_id, ResultFilter())

    @routes.get("/runs/{run_id}/results.parquet")
    async def results_parquet(principal: ConsolePrincipal, run_id: str) -> Response:
        return await parquet_file(db, principal, run_id, ResultFilter())


def _result_state(text: str) -> ResultState | None:
    if text and text not in set(ResultState):
        raise InvalidInput(f"A customer's state is one of {', '.join(ResultState)}.")
    return ResultState(text) if text else None
