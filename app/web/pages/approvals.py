"""Writes that wait for a person's word, with the exact arguments that they will run with."""

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from app.agent.models import Approval, ApprovalState
from app.agent.tools.approvals import ApprovalRepository, settle
from app.errors import InvalidInput
from app.principal import Role
from app.web.places import APPROVALS
from app.web.shell import ConsolePrincipal, CurrentShell

PAGE = 50


def router() -> APIRouter:
    routes = APIRouter(prefix="/approvals")

    @routes.get("")
    async def list_approvals(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            approvals = ApprovalRepository(session, principal.tenant_id)
            pending = await approvals.all(Approval.state == ApprovalState.PENDING, limit=PAGE)
            decided = await approvals.page(Approval.state != ApprovalState.PENDING, limit=PAGE)
        return shell.page(request, "approvals.html", pending=pending, decided=decided.items, shown=PAGE)

    @routes.get("/{approval_id}")
    async def show_approval(
        request: Request, shell: CurrentShell, principal: ConsolePrincipal, approval_id: str
    ) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            approval = await ApprovalRepository(session, principal.tenant_id).get(approval_id)
        return shell.page(request, "approval.html", approval=approval, may_decide=principal.has(Role.ADMIN))

    @routes.post("/{approval_id}")
    async def decide(
        shell: CurrentShell,
        principal: ConsolePrincipal,
        approval_id: str,
        verdict: Annotated[str, Form()] = "",
        confirmed: Annotated[str, Form()] = "",
    ) -> Response:
        principal.require(Role.ADMIN)
        if verdict not in ("approve", "reject") or confirmed != "yes":
            raise InvalidInput("Choose to approve or to reject, and confirm that you have read the arguments.")
        services = shell.services
        async with services.db.transaction(principal.tenant_id) as session:
            approved = verdict == "approve"
            await settle(services.approvals, services.resumers, session, principal, approval_id, approved=approved)
        return RedirectResponse(APPROVALS, 303)

    return routes
