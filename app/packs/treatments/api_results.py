"""`/v1/treatments/runs/{run_id}/results` and a customer's whole story."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from app.http.deps import CurrentPrincipal
from app.pack import Kit
from app.packs.treatments.export import ResultFiles, blocks
from app.packs.treatments.models import ResultState
from app.packs.treatments.results import ResultFilter, Results
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.schemas_runs import ResultOut, ResultPage
from app.packs.treatments.schemas_story import StoryOut
from app.packs.treatments.story import Stories
from app.principal import Principal
from app.storage.db import Database

RESULTS: Final = "/v1/treatments/runs/{run_id}/results"
CSV_TYPE: Final = "text/csv; charset=utf-8"
PARQUET_TYPE: Final = "application/vnd.apache.parquet"
Name = Annotated[str, Path(min_length=1, max_length=128, description="Your own id of the customer, or ours")]
State = Annotated[ResultState | None, Query()]
TreatmentName = Annotated[str | None, Query(max_length=40)]


def build_results_router(kit: Kit) -> APIRouter:
    router = APIRouter(tags=["treatments"])
    _add_reading(router, kit)
    _add_files(router, kit.ports.db)
    return router


def _add_reading(router: APIRouter, kit: Kit) -> None:
    db, stories = kit.ports.db, Stories(kit)

    @router.get(RESULTS, summary="What a run decided, in the order of the customers")
    async def list_results(
        run_id: str,
        principal: CurrentPrincipal,
        state: State = None,
        treatment: TreatmentName = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> ResultPage:
        async with db.reading(principal.tenant_id) as session:
            results = Results(session, principal.tenant_id)
            return await results.page(run_id, ResultFilter(state, treatment), cursor, limit)

    @router.get(RESULTS + "/{customer}", summary="What a run decided about a customer, and why")
    async def get_result(run_id: str, customer: Name, principal: CurrentPrincipal) -> ResultOut:
        async with db.reading(principal.tenant_id) as session:
            return await Results(session, principal.tenant_id).of_customer(run_id, customer)

    @router.get("/v1/treatments/customers/{customer}/story", summary="All that was decided about a customer")
    async def get_story(customer: Name, principal: CurrentPrincipal) -> StoryOut:
        return await stories.of(principal, customer)


def _add_files(router: APIRouter, db: Database) -> None:
    @router.get(RESULTS + ".csv", response_class=StreamingResponse, summary="The results as CSV")
    async def results_csv(
        run_id: str, principal: CurrentPrincipal, state: State = None, treatment: TreatmentName = None
    ) -> StreamingResponse:
        """A cell that a spreadsheet would take for a formula begins with an apostrophe."""
        return await csv_file(db, principal, run_id, ResultFilter(state, treatment))

    @router.get(RESULTS + ".parquet", response_class=StreamingResponse, summary="The results as Parquet")
    async def results_parquet(
        run_id: str, principal: CurrentPrincipal, state: State = None, treatment: TreatmentName = None
    ) -> StreamingResponse:
        return await parquet_file(db, principal, run_id, ResultFilter(state, treatment))


async def csv_file(db: Database, principal: Principal, run_id: str, wanted: ResultFilter) -> StreamingResponse:
    """Raises NotFound for a run that is not there."""
    files = await _files(db, principal, run_id, wanted)
    return StreamingResponse(files.csv(), media_type=CSV_TYPE, headers=_named(run_id, "csv"))


async def parquet_file(db: Database, principal: Principal, run_id: str, wanted: ResultFilter) -> StreamingResponse:
    """Raises NotFound for a run that is not there."""
    files = await _files(db, principal, run_id, wanted)
    body = blocks(await files.parquet())
    return StreamingResponse(body, media_type=PARQUET_TYPE, headers=_named(run_id, "parquet"))


async def _files(db: Database, principal: Principal, run_id: str, wanted: ResultFilter) -> ResultFiles:
    """Raises NotFound for a run that is not there."""
    async with db.reading(principal.tenant_id) as session:
        await RunRepository(session, principal.tenant_id).get(run_id)
    return ResultFiles(db, principal.tenant_id, run_id, wanted)


def _named(run_id: str, ending: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{run_id}.{ending}"'}
