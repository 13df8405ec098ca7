"""`/v1/treatments/runs`: endpoint -> service -> repository."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.http.deps import CurrentPrincipal, Once
from app.http.strict import strict_json
from app.pack import Kit
from app.packs.treatments.lanes import Lanes
from app.packs.treatments.models import RunState
from app.packs.treatments.run_file import CSV, JSON_LINES, external_ids, spooled
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_runs import ResumeIn, RunIn, RunOptions, RunOut, RunPage
from app.principal import Role

RUNS_PATH: Final = "/v1/treatments/runs"
JSON: Final = "application/json"
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
    @router.post(
        RUNS_PATH, status_code=201, response_model=RunOut, openapi_extra=_body(), summary="Start a run over customers"
    )
    async def create_run(
        request: Request, principal: CurrentPrincipal, once: Once, options: Annotated[RunOptions, Query()]
    ) -> Response:
        """Over all customers, a segment or some, as JSON; or over the customers of a file (`text/csv` with the column
        `external_id`, or `application/x-ndjson`), with the options in the query."""
        principal.require(Role.AGENT)
        kind = request.headers.get("content-type", "")
        if kind.partition(";")[0].strip().lower() == JSON:
            body = await _json(request)
            return await once.run(201, lambda session: service.create(session, principal, body))
        async with spooled(request.stream()) as file:
            listed = external_ids(kind, file)
            return await once.run(201, lambda session: service.create_of(session, principal, options, listed))


async def _json(request: Request) -> RunIn:
    """Raises RequestValidationError, as the framework would for a body that it reads itself."""
    if request.query_params:
        raise InvalidInput("The options of a run are members of its JSON body: leave them out of the address.")
    try:
        return RunIn.model_validate(strict_json(await request.body()))
    except ValidationError as error:
        items = [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_url=False)]
        raise RequestValidationError(items) from None


def _body() -> dict[str, Any]:
    """The request body for the API's description: the endpoint reads it itself, for it comes in three forms."""
    content = {
        JSON: {"schema": RunIn.model_json_schema()},
        CSV: {"schema": {"type": "string", "description": "A header line with `external_id`, a customer a line"}},
        JSON_LINES[0]: {"schema": {"type": "string", "description": 'One `{"external_id": ...}` a line'}},
    }
    return {"requestBody": {"required": True, "content": content}}


def _add_reading(router: APIRouter, kit: Kit, service: RunService) -> None:
    db = kit.ports.db

    @router.get(RUNS_PATH, summary="Runs, newest first")
    async def list_runs(
        principal: CurrentPrincipal, state: RunState | None = None, cursor: Cursor = None, limit: Limit = 50
    ) -> RunPage:
        async with db.reading(principal.tenant_id) as session:
            return await service.page(session, principal, state, cursor, limit)

    @router.get(RUNS_PATH + "/{run_id}", summary="How a run stands")
    async def get_run(run_id: str, principal: CurrentPrincipal) -> RunOut:
        async with db.reading(principal.tenant_id) as session:
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
