"""`/v1/approvals`: writes that wait for a person."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import Approval, ApprovalState
from app.agent.tools import Approvals
from app.agent.tools.approvals import ApprovalRepository, Resume, settle
from app.http.deps import CurrentPrincipal, Once
from app.principal import Principal
from app.storage.db import Database


class Deciding(Protocol):
    @property
    def db(self) -> Database: ...
    @property
    def approvals(self) -> Approvals: ...
    @property
    def resumers(self) -> Mapping[str, Resume]: ...


class ApprovalOut(BaseModel):
    """`args` are exactly what the write will run with."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    tool: str
    args: dict[str, Any]
    subject_id: str
    state: ApprovalState
    requested_by: str
    decided_by: str | None
    decided_at: datetime | None


class ApprovalPage(BaseModel):
    items: list[ApprovalOut]
    next_cursor: str | None


def approvals_router(deciding: Deciding) -> APIRouter:
    router = APIRouter(tags=["approvals"])

    @router.get("/v1/approvals", summary="Writes that wait, or waited, for a person")
    async def list_approvals(
        principal: CurrentPrincipal,
        state: ApprovalState | None = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> ApprovalPage:
        conditions = [] if state is None else [Approval.state == state]
        async with deciding.db.reading(principal.tenant_id) as session:
            approvals = ApprovalRepository(session, principal.tenant_id)
            page = await approvals.page(*conditions, cursor=cursor, limit=limit)
        return ApprovalPage(items=[ApprovalOut.model_validate(row) for row in page.items], next_cursor=page.next_cursor)

    @router.post("/v1/approvals/{approval_id}/approve", response_model=ApprovalOut, summary="Let the write run")
    async def approve(approval_id: str, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> ApprovalOut:
            return await decide(deciding, session, principal, approval_id, approved=True)

        return await once.run(200, work)

    @router.post("/v1/approvals/{approval_id}/reject", response_model=ApprovalOut, summary="Refuse the write")
    async def reject(approval_id: str, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> ApprovalOut:
            return await decide(deciding, session, principal, approval_id, approved=False)

        return await once.run(200, work)

    return router


async def decide(
    deciding: Deciding, session: AsyncSession, principal: Principal, approval_id: str, *, approved: bool
) -> ApprovalOut:
    """As `settle`; raises NotFound, Forbidden, or Conflict where it was decided before."""
    settled = await settle(deciding.approvals, deciding.resumers, session, principal, approval_id, approved=approved)
    return ApprovalOut.model_validate(settled)
