"""`/v1/leads`: endpoint -> service -> repository."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.deps import CurrentPrincipal, Moment, Once
from app.pack import Kit
from app.packs.leads.business import BusinessMetrics, BusinessReport
from app.packs.leads.intake import Intake
from app.packs.leads.models import LeadStatus
from app.packs.leads.schemas import (
    BatchReport,
    FeedbackIn,
    FeedbackOut,
    LeadAccepted,
    LeadCounts,
    LeadDetail,
    LeadIn,
    LeadPage,
    MessageAccepted,
    MessageIn,
    OutcomeIn,
    OutcomeOut,
)
from app.packs.leads.service import LeadFilter, LeadService

BATCH_PATH = "/v1/leads/batch"
BATCH_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string", "description": "One lead (as POST /v1/leads) a line"}
            },
            "text/csv": {"schema": {"type": "string", "description": "A header line, then one lead a line"}},
        },
    }
}


def build_router(kit: Kit, service: LeadService) -> APIRouter:
    router = APIRouter(tags=["leads"])
    _add_intake(router, service, Intake(service))
    _add_reading(router, kit, service)
    _add_judging(router, service)
    return router


def _add_intake(router: APIRouter, service: LeadService, intake: Intake) -> None:

    @router.post("/v1/leads", status_code=201, response_model=LeadAccepted, summary="Store a lead, queue its decision")
    async def create_lead(body: LeadIn, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> LeadAccepted:
            return await service.create(session, principal, body)

        return await once.run(201, work)

    @router.post(BATCH_PATH, response_model=BatchReport, openapi_extra=BATCH_BODY, summary="Store many leads")
    async def create_leads(request: Request, principal: CurrentPrincipal, once: Once) -> Response:
        batch = await intake.read(request.headers.get("content-type", ""), await request.body())

        async def work(session: AsyncSession) -> BatchReport:
            return await intake.store(session, principal, batch)

        return await once.run(200, work)

    @router.post(
        "/v1/leads/{lead_id}/messages",
        status_code=202,
        response_model=MessageAccepted,
        summary="A further message of the lead",
    )
    async def add_message(lead_id: str, body: MessageIn, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> MessageAccepted:
            return await service.add_message(session, principal, lead_id, body)

        return await once.run(202, work)


def _add_reading(router: APIRouter, kit: Kit, service: LeadService) -> None:
    db = kit.ports.db
    business = BusinessMetrics(kit)

    @router.get("/v1/leads", summary="Leads, newest first")
    async def list_leads(
        principal: CurrentPrincipal,
        status: LeadStatus | None = None,
        source: Annotated[str | None, Query(max_length=50)] = None,
        email: Annotated[str | None, Query(max_length=320)] = None,
        created_after: Moment | None = None,
        created_before: Moment | None = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> LeadPage:
        wanted = LeadFilter(status, source, email, created_after, created_before)
        async with db.reading(principal.tenant_id) as session:
            return await service.page(session, principal, wanted, cursor, limit)

    @router.get("/v1/leads/counts", summary="How many leads stand where")
    async def count_leads(principal: CurrentPrincipal) -> LeadCounts:
        async with db.reading(principal.tenant_id) as session:
            return await service.counts(session, principal)

    @router.get("/v1/leads/{lead_id}", summary="A lead with its messages and timeline")
    async def get_lead(lead_id: str, principal: CurrentPrincipal) -> LeadDetail:
        async with db.reading(principal.tenant_id) as session:
            return await service.detail(session, principal, lead_id)

    @router.get("/v1/metrics/business", summary="What the agent is worth, by day and by experiment arm")
    async def business_metrics(
        principal: CurrentPrincipal,
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> BusinessReport:
        return await business.report(principal, since, until)


def _add_judging(router: APIRouter, service: LeadService) -> None:
    @router.post(
        "/v1/leads/{lead_id}/outcome", status_code=201, response_model=OutcomeOut, summary="What became of the lead"
    )
    async def record_outcome(lead_id: str, body: OutcomeIn, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> OutcomeOut:
            return await service.record_outcome(session, principal, lead_id, body)

        return await once.run(201, work)

    @router.post(
        "/v1/leads/{lead_id}/feedback", status_code=201, response_model=FeedbackOut, summary="Judge a decision"
    )
    async def record_feedback(lead_id: str, body: FeedbackIn, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> FeedbackOut:
            return await service.record_feedback(session, principal, lead_id, body)

        return await once.run(201, work)
