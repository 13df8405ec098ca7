"""Every error answer is one RFC 9457 problem document (`application/problem+json`)."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from app.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    Malformed,
    NotFound,
    TooLarge,
    TrellisError,
    Unauthenticated,
    UnsupportedMedia,
)
from app.storage.failures import failure

_log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:trellis:problem:"
MAX_ERRORS = 50
_MAX_TEXT = 300
_UNTYPED_BODY = frozenset({"model_attributes_type", "dict_type", "list_type", "dataclass_type"})
_NAMED = (Malformed, Unauthenticated, Forbidden, NotFound, Conflict, TooLarge, UnsupportedMedia, InvalidInput)
_MESSAGES = {
    "missing": "is missing: send it",
    "extra_forbidden": "is not a known field: leave it out",
}


class InternalError(TrellisError):
    """What a caller learns of an error that nobody foresaw: nothing but the request's id."""

    def __init__(self) -> None:
        super().__init__("Something went wrong on our side; the request id finds it in the log.")


def request_id_of(scope: Scope) -> str:
    """The request's id; empty before the edge has given it one."""
    return str(scope.get("state", {}).get("request_id", ""))


def problem(
    scope: Scope,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem answer: `type` is stable for a code, `instance` is the request's id."""
    body = {
        **(extra or {}),
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request_id_of(scope),
    }
    content = orjson.dumps(body, default=str)
    return Response(content, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def from_error(scope: Scope, error: TrellisError) -> Response:
    """The answer to an error that was raised for the caller."""
    return problem(
        scope, error.status, error.code, error.title, error.detail, extra=error.extra, headers=error.headers()
    )


def from_http(scope: Scope, error: HTTPException) -> Response:
    """The answer to an error of the framework (no such address, wrong method, body too large)."""
    code, title = _name(error.status_code)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        detail = f"'{scope['method'][:20]}' is not possible here: use {headers.get('Allow', 'another method')}."
    elif error.status_code == 404 and error.detail == HTTPStatus.NOT_FOUND.phrase:
        detail = "There is nothing at this address."
    else:
        detail = error.detail
    return problem(scope, error.status_code, code, title, detail, headers=headers)


def from_database(scope: Scope, error: Exception) -> Response | None:
    """The answer where the database and not the request is at fault; None for any other error."""
    stated = failure(error)
    if stated is None:
        return None
    # As `_on_trellis`: no traceback where these come by the hundred.
    cause = type(getattr(error, "orig", None) or error).__name__
    _log.error("database not available", code=stated.code, detail=stated.detail, cause=cause)
    return from_error(scope, stated)


def from_unforeseen(scope: Scope) -> Response:
    """The answer to any other error: 500, no detail, the request's id."""
    error = InternalError()
    return problem(
        scope, error.status, error.code, error.title, error.detail, extra={"request_id": request_id_of(scope)}
    )


def from_validation(error: RequestValidationError, content_type: str) -> TrellisError:
    """The error that says for each field what is wrong with it and what is allowed; no input is repeated in it."""
    errors = list(error.errors())
    if any(item["type"] == "json_invalid" for item in errors):
        return Malformed("The body is not valid JSON.")
    if isinstance(error.body, bytes) and any(
        item["type"] in _UNTYPED_BODY and tuple(item["loc"]) == ("body",) for item in errors
    ):
        sent = f"'{content_type[:80]}'" if content_type else "no content type"
        return UnsupportedMedia(f"The body came with {sent}: send JSON as 'application/json'.")
    fields = [_field_error(item) for item in errors[:MAX_ERRORS]]
    return InvalidInput(_summary(fields, len(errors)), errors=fields)


def install_handlers(app: FastAPI) -> None:
    """Every error that is raised inside the app's routes ends in a problem document."""
    app.add_exception_handler(TrellisError, _on_trellis)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(DBAPIError, _on_database)
    app.add_exception_handler(PoolTimeout, _on_database)


def _name(status: int) -> tuple[str, str]:
    for kind in _NAMED:
        if kind.status == status:
            return kind.code, kind.title
    # The standard library renames phrases between versions; a `type` may not change, so only rare ones come from it.
    phrase = HTTPStatus(status).phrase
    return re.sub(r"[^a-z]+", "-", phrase.lower()).strip("-"), phrase


async def _on_trellis(request: Request, error: Exception) -> Response:
    assert isinstance(error, TrellisError)
    if error.status >= 500:
        # Writing a traceback down takes milliseconds of the event loop: not for what is foreseen, and comes by the
        # hundred where a part is away.
        foreseen = error.status != HTTPStatus.INTERNAL_SERVER_ERROR
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        _log.error("request failed", code=error.code, detail=error.detail, cause=cause, exc_info=not foreseen and error)
    return from_error(request.scope, error)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return from_error(request.scope, from_validation(error, request.headers.get("content-type", "")))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return from_http(request.scope, error)


async def _on_database(request: Request, error: Exception) -> Response:
    answer = from_database(request.scope, error)
    if answer is None:
        raise error
    return answer


def _field_error(item: Any) -> dict[str, str]:
    where, *path = (str(part)[:80] for part in item["loc"])
    message = _MESSAGES.get(item["type"]) or str(item["msg"]).removeprefix("Value error, ")
    return {
        "in": where,
        "field": ".".join(path) or where,
        "code": str(item["type"]),
        "message": message[:_MAX_TEXT],
    }


def _summary(fields: Sequence[Mapping[str, str]], total: int) -> str:
    shown = "; ".join(f"'{field['field']}' ({field['in']}): {field['message']}" for field in fields[:5])
    rest = f"; and {total - 5} more" if total > 5 else ""
    return f"{shown}{rest}."
