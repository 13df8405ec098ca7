"""The audit log: its latest entries, and whether the chain holds."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.governance.audit import AuditReport, verify
from app.governance.models import AuditEntry
from app.principal import Principal
from app.web.shell import ConsolePrincipal, CurrentShell, Shell

PAGE = 50
MAX_SEQ = (1 << 63) - 1


def router() -> APIRouter:
    routes = APIRouter(prefix="/audit")

    @routes.get("")
    async def entries(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        before: Annotated[int | None, Query(ge=1, le=MAX_SEQ)] = None,
    ) -> Response:
        return await _page(request, shell, principal, before, None)

    @routes.post("")
    async def verify_chain(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            report = await verify(session, principal.tenant_id)
        return await _page(request, shell, principal, None, report)

    return routes


async def _page(
    request: Request, shell: Shell, principal: Principal, before: int | None, report: AuditReport | None
) -> Response:
    async with shell.services.db.reading(principal.tenant_id) as session:
        rows = await _latest(session, principal.tenant_id, before)
    shown = [(row, orjson.loads(row.data)) for row in rows[:PAGE]]
    older = rows[PAGE - 1].seq if len(rows) > PAGE else None
    return shell.page(request, "audit.html", entries=shown, before=before, older=older, report=report)


async def _latest(session: AsyncSession, tenant_id: str, before: int | None) -> list[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.tenant_id == tenant_id)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    return list((await session.scalars(query.order_by(AuditEntry.seq.desc()).limit(PAGE + 1))).all())
