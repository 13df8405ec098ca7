"""The console's door: nobody sees a page without a session, no form is taken without its token."""

import secrets

import structlog
from fastapi import Request

from app.errors import Forbidden, Unauthenticated
from app.web.cookies import FORM_COOKIE, SESSION_COOKIE
from app.web.places import SIGN_IN
from app.web.sessions import Visit
from app.web.shell import Shell

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
# Our own scripts send the token here: a page of somebody else's cannot set a header of its own on a request to us.
TOKEN_HEADER = "x-form-token"  # noqa: S105 - a header's name


class SignInNeeded(Unauthenticated):
    """Answered with the way to the sign-in page."""


async def guard(request: Request) -> None:
    """Runs before every endpoint of the console.

    Raises SignInNeeded without a session (the sign-in page aside), Forbidden for a form without its token.
    """
    shell: Shell = request.app.state.shell
    visit = await _visit(shell, request)
    if visit.principal is None and request.url.path != SIGN_IN:
        raise SignInNeeded("Sign in to see this page.")
    request.state.visit = visit
    if visit.principal is not None:
        request.state.principal = visit.principal
        structlog.contextvars.bind_contextvars(tenant=visit.principal.tenant_id)
    if request.method not in _SAFE:
        await _check_token(shell, request, visit)


async def _visit(shell: Shell, request: Request) -> Visit:
    known = await shell.sessions.visit(request.cookies.get(SESSION_COOKIE, ""))
    if known is not None:
        return known
    binding = request.cookies.get(FORM_COOKIE, "")
    return Visit(shell.services.open_as, binding or secrets.token_urlsafe(16), fresh=not binding)


async def _check_token(shell: Shell, request: Request, visit: Visit) -> None:
    token = request.headers.get(TOKEN_HEADER) or await _token_of_form(request)
    if not isinstance(token, str) or not shell.sessions.is_form_token(visit.binding, token):
        raise Forbidden("This form is out of date: go back, load the page again and send it once more.")


async def _token_of_form(request: Request) -> object:
    # The edge checks this kind of form alone; a multipart one also brings an encoding of its own choice.
    ours = request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
    return ours and (await request.form()).get("form_token")
