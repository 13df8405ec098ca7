"""What endpoints ask for: the principal, a role, an answer given once."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import AfterValidator, AwareDatetime

from app.http.auth import Gate
from app.http.idempotency import MAX_KEY, OnceRunner, Repeats
from app.principal import Principal, Role


def _reckonable(moment: datetime) -> datetime:
    # Near the ends of the calendar a time cannot be put into UTC, nor a period be taken from it.
    if not 1970 <= moment.year <= 9998:
        raise ValueError("the year must be between 1970 and 9998")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_reckonable)]


class _KeyAuth(SecurityBase):
    """The principal that the edge admitted; admits one on paths that the edge leaves open."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An API key: `Authorization: Bearer trl_…`")
        self.scheme_name = "BearerKey"

    async def __call__(self, request: Request) -> Principal:
        gate: Gate = request.app.state.gate
        return await gate.admit(request.scope)


CurrentPrincipal = Annotated[Principal, Security(_KeyAuth())]


def require(role: Role) -> Any:
    """A dependency that gives the principal and raises Forbidden below `role`.

    `dependencies=[require(Role.ADMIN)]` on a route, or `Annotated[Principal, require(Role.ADMIN)]`.
    """

    async def checked(principal: CurrentPrincipal) -> Principal:
        principal.require(role)
        return principal

    return Depends(checked)


async def _once(
    request: Request,
    principal: CurrentPrincipal,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=MAX_KEY,
            pattern=r"^[\x21-\x7e]+$",
            description="Repeating a request with the same key and body gives the first answer again, "
            "without doing anything twice. 1-200 visible ASCII characters, kept for 24 hours.",
        ),
    ] = None,
) -> OnceRunner:
    repeats: Repeats = request.app.state.repeats
    return OnceRunner(repeats, request, principal, key)


Once = Annotated[OnceRunner, Depends(_once)]
