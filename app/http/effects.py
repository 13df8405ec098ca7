"""`/v1/effects`: writes to the outside, and a person's word on those that may or may not have happened."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import EffectRow, EffectState
from app.agent.tools.approvals import Resume, go_on
from app.agent.tools.records import EffectRepository, settle_parked
from app.clock import Clock
from app.governance.audit import Audit
from app.http.deps import CurrentPrincipal, Once
from app.principal import Principal
from app.storage.db import Database


class Ledger(Protocol):
    @property
    def db(self) -> Database: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def resumers(self) -> Mapping[str, Resume]: ...


class EffectOut(BaseModel):
    """One write. `parked`: it may have happened; look at the vendor, then settle it."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    created_at: datetime
    tool: str
    subject_id: str
    args: dict[str, Any]
    state: EffectState
    error: str


class EffectPage(BaseModel):
    items: list[EffectOut]
    next_cursor: str | None


class SettleIn(BaseModel):
    """`happened`: the write is done; else it runs again when its decision goes on, at once."""

    model_config = ConfigDict(extra="forbid")

    happened: bool


def effects_router(ledger: Ledger) -> APIRouter:
    router = APIRouter(tags=["effects"])

    @router.get("/v1/effects", summary="Writes to the outside, newest first")
    async def list_effects(
        principal: CurrentPrincipal,
        state: EffectState | None = None,
        cursor: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> EffectPage:
        conditions = [] if state is None else [EffectRow.state == state]
        async with ledger.db.reading(principal.tenant_id) as session:
            page = await EffectRepository(session, principal.tenant_id).page(*conditions, cursor=cursor, limit=limit)
        return EffectPage(items=[EffectOut.model_validate(row) for row in page.items], next_cursor=page.next_cursor)

    @router.post(
        "/v1/effects/{effect_id}/settle", response_model=EffectOut, summary="Say whether a parked write happened"
    )
    async def settle_effect(effect_id: str, body: SettleIn, principal: CurrentPrincipal, once: Once) -> Response:
        async def work(session: AsyncSession) -> EffectOut:
            return await settle(ledger, session, principal, effect_id, happened=body.happened)

        return await once.run(200, work)

    return router


async def settle(
    ledger: Ledger, session: AsyncSession, principal: Principal, effect_id: str, *, happened: bool
) -> EffectOut:
    """Records the person's word and lets the write's decision go on, in one transaction.

    Raises NotFound, Forbidden, or Conflict where the write is not parked.
    """
    effect = await settle_parked(session, principal, ledger.audit, ledger.clock, effect_id, happened=happened)
    await go_on(ledger.resumers, session, principal, effect.subject_id)
    return EffectOut.model_validate(effect)
