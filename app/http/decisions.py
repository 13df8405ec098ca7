"""`/v1/decisions`: every decision of every pack, explained."""

from datetime import datetime
from typing import Annotated, Protocol

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from app.governance.decisions import DecisionExplanation, DecisionRepository, explain
from app.governance.models import Decision, DecisionState
from app.http.deps import CurrentPrincipal
from app.storage.db import Database


class Storage(Protocol):
    @property
    def db(self) -> Database: ...


class DecisionSummary(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    pack: str
    subject_id: str
    action: str
    confidence: float
    reason: str
    state: str
    model: str | None


class DecisionPage(BaseModel):
    items: list[DecisionSummary]
    next_cursor: str | None


def decisions_router(storage: Storage) -> APIRouter:
    router = APIRouter(tags=["decisions"])

    @router.get("/v1/decisions", summary="Decisions, newest first")
    async def list_decisions(
        principal: CurrentPrincipal,
        pack: Annotated[str | None, Query(max_length=40)] = None,
        action: Annotated[str | None, Query(max_length=40)] = None,
        state: DecisionState | None = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> DecisionPage:
        wanted = ((Decision.pack, pack), (Decision.action, action), (Decision.state, state))
        conditions = [column == value for column, value in wanted if value is not None]
        async with storage.db.reading(principal.tenant_id) as session:
            decisions = DecisionRepository(session, principal.tenant_id)
            page = await decisions.page(*conditions, cursor=cursor, limit=limit)
        items = [DecisionSummary.model_validate(decision) for decision in page.items]
        return DecisionPage(items=items, next_cursor=page.next_cursor)

    @router.get("/v1/decisions/{decision_id}", summary="Why a decision came out as it did")
    async def get_decision(decision_id: str, principal: CurrentPrincipal) -> DecisionExplanation:
        async with storage.db.reading(principal.tenant_id) as session:
            return explain(await DecisionRepository(session, principal.tenant_id).get(decision_id))

    return router
