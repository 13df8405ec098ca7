"""Signing in with an API key or a one-time link, and out again."""

import re
from typing import Annotated

import structlog
from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from app.principal import Principal
from app.web.cookies import FORM_COOKIE, SESSION_COOKIE, drop_cookie, set_cookie
from app.web.places import BASE, SIGN_IN
from app.web.shell import CurrentShell, Shell

_log = structlog.get_logger("trellis.console")

WRONG_KEY = "This key does not open the console. Check it, or ask an admin of your tenant for another one."
USED_LINK = "This sign-in link was used before or is older than 10 minutes. Sign in with an API key."
_OUR_PAGE = re.compile(rf"{BASE}/[\w./?=&%-]*", re.ASCII)


def router() -> APIRouter:
    routes = APIRouter()

    @routes.get("/sign-in")
    async def show(
        request: Request,
        shell: CurrentShell,
        ticket: Annotated[str | None, Query(max_length=1024)] = None,
        come_back: Annotated[str, Query(alias="next", max_length=500)] = "",
    ) -> Response:
        if ticket is None:
            return shell.page(request, "sign_in.html", come_back=come_back, problem="")
        principal = await shell.sessions.redeem(ticket)
        if principal is None:
            return shell.page(request, "sign_in.html", status=401, come_back="", problem=USED_LINK)
        # A page of ours, and not a redirect: a browser sends the new cookie only from a page of this site.
        return await _signed_in(shell, request, shell.page(request, "signed_in.html"), principal, by="link")

    @routes.post("/sign-in")
    async def sign_in(
        request: Request,
        shell: CurrentShell,
        key: Annotated[str, Form(max_length=200)] = "",
        come_back: Annotated[str, Form(alias="next", max_length=500)] = "",
    ) -> Response:
        principal = await _key_holder(shell, request, key.strip())
        if principal is None:
            return shell.page(request, "sign_in.html", status=401, come_back=come_back, problem=WRONG_KEY)
        wanted = come_back if _OUR_PAGE.fullmatch(come_back) else f"{BASE}/"
        return await _signed_in(shell, request, RedirectResponse(wanted, 303), principal, by="key")

    @routes.post("/sign-out")
    async def sign_out() -> Response:
        answer = RedirectResponse(SIGN_IN, 303)
        drop_cookie(answer, SESSION_COOKIE)
        drop_cookie(answer, FORM_COOKIE)
        return answer

    return routes


async def _key_holder(shell: Shell, request: Request, secret: str) -> Principal | None:
    """Whom the key stands for; a wrong one counts against the address, as at the API. Raises RateLimited."""
    services = shell.services
    address = request.client.host if request.client else ""
    await services.rates.check_failures(address)
    principal = await services.keys.authenticate(secret)
    if principal is None:
        await services.rates.failed(address)
        _log.warning("sign-in failed", address=address)
    return principal


async def _signed_in(shell: Shell, request: Request, answer: Response, principal: Principal, *, by: str) -> Response:
    """The answer with a new session in it; the audit log tells that the console was opened."""
    services = shell.services
    async with services.db.transaction(principal.tenant_id) as session:
        await services.audit.record(session, principal, "console.signed_in", principal.actor, {"by": by})
    life_s = round(shell.sessions.life.total_seconds())
    set_cookie(request, answer, SESSION_COOKIE, shell.sessions.issue(principal.actor), life_s, services.settings)
    return answer
