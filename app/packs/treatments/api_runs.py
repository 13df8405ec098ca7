"""`/v1/treatments/runs`: endpoint -> service -> repository."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.deps import CurrentPrincipal, Once
from app.pack import Kit
from app.packs.treatments.lanes import Lanes
from app.packs.treatments.models import RunState
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_runs import ResumeIn, RunIn, RunOut, RunPage

RUNS_PATH = "/v1/treatments/runs"
Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=200)]


def build_runs_router(kit: Kit, lanes: Lanes) -> APIRouter:
    router = APIRouter(tags=["treatments"])
    service = RunService(kit, lanes)
    _add_starting(router, service)
    _add_reading(router, kit, service)
    _add_steering(router, service)
    return router


def _add_starting(router: APIRouter, service: RunService) -> None:
    @router.post(RUNS_PATH, status_code=201, response_model=RunOut, summary="Start a run over customers")
    async def create_run(body: RunIn, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> RunOut:
            return await service.create(session, principal, body)

        return await once.run(201, work)


def _add_reading(router: APIRouter, kit: Kit, service: RunService) -> None:
    db = kit.ports.db

    @router.get(RUNS_PATH, summary="Runs, newest first")
    async def list_runs(
        principal: CurrentPrincipal, state: RunState | None = None, cursor: Cursor = None, limit: Limit = 50
    ) -> RunPage:
        async with db.reading() as session:
            return await service.page(session, principal, state, cursor, limit)

    @router.get(RUNS_PATH + "/{run_id}", summary="How a run stands")
    async def get_run(run_id: str, principal: CurrentPrincipal) -> RunOut:
        async with db.reading() as session:
            return await service.get(session, principal, run_id)


def _add_steering(router: APIRouter, service: RunService) -> None:
    @router.post(RUNS_PATH + "/{run_id}/pause", response_model=RunOut, summary="Take up nothing more for now")
    async def pause_run(run_id: str, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> RunOut:
            return await service.pause(session, principal, run_id)

        return await once.run(200, work)

    @router.post(RUNS_PATH + "/{run_id}/cancel", response_model=RunOut, summary="End a run; what is decided stays")
    async def cancel_run(run_id: str, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> RunOut:
            return await service.cancel(session, principal, run_id)

        return await once.run(200, work)

    @router.post(RUNS_PATH + "/{run_id}/resume", response_model=RunOut, summary="Go on where a run stopped")
    async def resume_run(
        run_id: str, principal: CurrentPrincipal, once: Once, body: ResumeIn | None = None
    ) -> Response:
        async def work(session: AsyncSession) -> RunOut:
            return await service.resume(session, principal, run_id, body or ResumeIn())

        return await once.run(200, work)
