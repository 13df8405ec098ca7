"""Decisions: the list, and why each came out as it did."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.agent.models import Approval, ApprovalState
from app.agent.tools.approvals import ApprovalRepository
from app.governance.decisions import DecisionRepository, explain
from app.governance.models import Decision, DecisionState
from app.principal import Principal
from app.web.pack_pages import Subject
from app.web.paging import query_of
from app.web.shell import ConsolePrincipal, CurrentShell, Shell

PAGE = 50
PARTS = ("inputs", "answer", "judge")


def router() -> APIRouter:
    routes = APIRouter(prefix="/decisions")

    @routes.get("")
    async def list_decisions(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        pack: Annotated[str, Query(max_length=40)] = "",
        action: Annotated[str, Query(max_length=40)] = "",
        state: Annotated[str, Query(max_length=40)] = "",
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        wanted = {"pack": pack, "action": action, "state": state}
        columns = {"pack": Decision.pack, "action": Decision.action, "state": Decision.state}
        conditions = [columns[name] == value for name, value in wanted.items() if value]
        async with shell.services.db.reading(principal.tenant_id) as session:
            found = await DecisionRepository(session, principal.tenant_id).page(*conditions, cursor=cursor, limit=PAGE)
            subjects = await subjects_of(shell, session, principal, found.items)
            actions = await _actions(session, principal)
        return shell.page(
            request,
            "decisions.html",
            decisions=found.items,
            subjects=subjects,
            wanted=wanted,
            choices={"pack": sorted(shell.services.runtimes), "action": actions, "state": list(DecisionState)},
            cursor=cursor,
            first=query_of(wanted),
            more=query_of(wanted, found.next_cursor) if found.next_cursor else None,
        )

    @routes.get("/{decision_id}")
    async def show_decision(
        request: Request, shell: CurrentShell, principal: ConsolePrincipal, decision_id: str, notice: str = ""
    ) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            decision = await DecisionRepository(session, principal.tenant_id).get(decision_id)
            values = await _explanation(shell, session, principal, decision)
        return shell.page(request, "decision.html", judged=notice == "judged", **values)

    return routes


async def subjects_of(
    shell: Shell, session: AsyncSession, principal: Principal, decisions: Sequence[Decision]
) -> Mapping[str, Subject]:
    """How the packs call what their decisions are about, by the subject's id."""
    named: dict[str, Subject] = {}
    for name, pages in shell.packs.items():
        ids = sorted({decision.subject_id for decision in decisions if decision.pack == name})
        if ids:
            named |= await pages.subjects(session, principal.tenant_id, ids)
    return named


async def _actions(session: AsyncSession, principal: Principal) -> Sequence[str]:
    mine = select(Decision.action).where(Decision.tenant_id == principal.tenant_id).distinct()
    return sorted((await session.scalars(mine)).all())


async def _explanation(shell: Shell, session: AsyncSession, principal: Principal, decision: Decision) -> dict[str, Any]:
    pages = shell.packs.get(decision.pack)
    waiting = await ApprovalRepository(session, principal.tenant_id).all(
        Approval.subject_id == decision.id, Approval.state == ApprovalState.PENDING
    )
    subjects = await subjects_of(shell, session, principal, [decision])
    names = [f"{decision.pack}/{part}.html" for part in PARTS]
    known = set(shell.templates.list_templates()) if pages else set()
    return {
        "decision": explain(decision),
        "subject": subjects.get(decision.subject_id),
        "waiting": waiting,
        "own_target_ms": shell.services.settings.targets.targets.own_share_p99_s * 1000,
        "parts": {part: name for part, name in zip(PARTS, names, strict=True) if name in known},
        "pack": await pages.describe(session, principal.tenant_id, decision) if pages else {},
    }
