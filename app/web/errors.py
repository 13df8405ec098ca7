"""Errors as pages: one sentence, and the way back."""

from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import InvalidInput, NotFound, TrellisError
from app.web.guard import SignInNeeded
from app.web.places import SIGN_IN
from app.web.shell import Shell

_log = structlog.get_logger("trellis.console")


def install_error_pages(app: FastAPI) -> None:
    """Every error inside the console ends in a page."""
    app.add_exception_handler(SignInNeeded, _to_sign_in)
    app.add_exception_handler(TrellisError, _on_trellis)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(_Unforeseen)


def error_page(request: Request, status: int, title: str, detail: str) -> Response:
    shell: Shell = request.app.state.shell
    return shell.page(request, "error.html", status=status, title=title, detail=detail)


async def _to_sign_in(request: Request, _error: Exception) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    come_back = f"?next={quote(wanted)}" if request.method == "GET" else ""
    return RedirectResponse(SIGN_IN + come_back, 303)


async def _on_trellis(request: Request, error: Exception) -> Response:
    assert isinstance(error, TrellisError)
    if error.status >= 500:
        _log.error("request failed", code=error.code, exc_info=error)
    answer = error_page(request, error.status, error.title, error.detail)
    answer.headers.update(error.headers())
    return answer


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = sorted({str(item["loc"][-1]) for item in error.errors()})
    return await _on_trellis(request, InvalidInput(f"The address or the form is not valid in: {', '.join(wrong)}."))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == NotFound.status:
        return error_page(request, NotFound.status, "There is no such page", "Choose another one from the navigation.")
    return error_page(request, error.status_code, "That is not possible here", error.detail)


class _Unforeseen:
    """Answers any other error with a page, and keeps it from the API's handlers around the console."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if started:
                raise
            _log.exception("unforeseen error")
            request = Request(scope)
            number = getattr(request.state, "request_id", "")
            detail = f"Something went wrong on our side. The log has the cause under the request id {number}."
            await error_page(request, 500, "Internal error", detail)(scope, receive, send)
