"""`/v1/treatments`: allocations of runs, their queues, reservations, the day's capacity, forecast, evaluation."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.deps import Agent, CurrentPrincipal, Once
from app.pack import Kit
from app.packs.treatments.allocating import Allocations
from app.packs.treatments.days import day_as_it_is
from app.packs.treatments.demand import forecasts
from app.packs.treatments.evaluating import EvaluationStage
from app.packs.treatments.models import ReservationState
from app.packs.treatments.queueing import Queue
from app.packs.treatments.reservations import ReservationFilter, Reservations
from app.packs.treatments.schemas_allocation import (
    AllocationList,
    AllocationOut,
    DayOut,
    QueueOut,
    ReservationIn,
    ReservationOut,
    ReservationPage,
)
from app.packs.treatments.schemas_evaluation import EvaluationOut, ForecastOut

RUN = "/v1/treatments/runs/{run_id}"
RESERVATIONS = "/v1/treatments/reservations"
Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=200)]


def build_allocation_router(kit: Kit) -> APIRouter:
    router = APIRouter(tags=["treatments"])
    _add_allocations(router, kit)
    _add_queue(router, kit)
    _add_judging(router, kit)
    _add_listing(router, kit, Reservations(kit))
    _add_reserving(router, Reservations(kit))
    return router


def _add_allocations(router: APIRouter, kit: Kit) -> None:
    allocations = Allocations(kit)

    @router.get(RUN + "/allocations", summary="A run's allocations, newest first: bound, gap, what held them back")
    async def list_allocations(
        run_id: str, principal: CurrentPrincipal, cursor: Cursor = None, limit: Limit = 50
    ) -> AllocationList:
        async with kit.ports.db.reading(principal.tenant_id) as session:
            return await allocations.page(session, principal, run_id, cursor, limit)

    @router.post(
        RUN + "/allocations",
        status_code=202,
        response_model=AllocationOut,
        summary="Allocate a done run again, by the limits in force now",
    )
    async def allocate_again(run_id: str, principal: Agent, once: Once) -> Response:
        """Confirmed reservations stay; those that are only held may move to other customers; the queue is looked at
        anew. The capacity is what is left of today (UTC)."""

        async def work(session: AsyncSession) -> AllocationOut:
            return await allocations.ask(session, principal, run_id)

        return await once.run(202, work)


def _add_queue(router: APIRouter, kit: Kit) -> None:
    queue = Queue(kit)

    @router.get(RUN + "/queue", summary="Who waits for capacity, the most valuable first")
    async def show_queue(
        run_id: str, principal: CurrentPrincipal, cursor: Cursor = None, limit: Limit = 50
    ) -> QueueOut:
        async with kit.ports.db.reading(principal.tenant_id) as session:
            return await queue.page(session, principal, run_id, cursor, limit)


def _add_judging(router: APIRouter, kit: Kit) -> None:
    stage = EvaluationStage(kit)

    @router.get(RUN + "/evaluation", summary="What a run was worth, against the customers who were held back")
    async def evaluate(run_id: str, principal: CurrentPrincipal) -> EvaluationOut:
        async with kit.ports.db.reading(principal.tenant_id) as session:
            return await stage.show(session, principal, run_id)

    @router.get("/v1/treatments/forecast", summary="Demand for each treatment in the coming days")
    async def foresee(principal: CurrentPrincipal, horizon: Annotated[int, Query(ge=1, le=60)] = 14) -> ForecastOut:
        async with kit.ports.db.reading(principal.tenant_id) as session:
            return await forecasts(session, kit, principal, horizon)


def _add_listing(router: APIRouter, kit: Kit, reservations: Reservations) -> None:
    @router.get("/v1/treatments/capacity", summary="What of a day is given, and what is left")
    async def show_day(principal: CurrentPrincipal, day: date | None = None) -> DayOut:
        async with kit.ports.db.reading(principal.tenant_id) as session:
            return await day_as_it_is(session, kit, principal, day)

    @router.get(RESERVATIONS, summary="Reservations, newest first")
    async def list_reservations(
        principal: CurrentPrincipal,
        treatment: Annotated[str | None, Query(max_length=40)] = None,
        day: date | None = None,
        state: ReservationState | None = None,
        customer: Annotated[str | None, Query(max_length=100)] = None,
        run_id: Annotated[str | None, Query(max_length=64)] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> ReservationPage:
        wanted = ReservationFilter(treatment, day, state, customer, run_id)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            return await reservations.page(session, principal, wanted, cursor, limit)


def _add_reserving(router: APIRouter, reservations: Reservations) -> None:
    @router.post(RESERVATIONS, status_code=201, response_model=ReservationOut, summary="Hold a unit of a treatment")
    async def hold(body: ReservationIn, principal: Agent, once: Once) -> Response:
        async def work(session: AsyncSession) -> ReservationOut:
            return await reservations.create(session, principal, body)

        return await once.run(201, work)

    @router.post(
        RESERVATIONS + "/{reservation_id}/confirm", response_model=ReservationOut, summary="Keep a held unit for good"
    )
    async def confirm(reservation_id: str, principal: Agent, once: Once) -> Response:
        async def work(session: AsyncSession) -> ReservationOut:
            return await reservations.confirm(session, principal, reservation_id)

        return await once.run(200, work)

    @router.post(
        RESERVATIONS + "/{reservation_id}/release", response_model=ReservationOut, summary="Let a unit go to the queue"
    )
    async def release(reservation_id: str, principal: Agent, once: Once) -> Response:
        async def work(session: AsyncSession) -> ReservationOut:
            return await reservations.release(session, principal, reservation_id)

        return await once.run(200, work)
