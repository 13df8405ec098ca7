"""What endpoints ask for: the principal, a role, an answer given once."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import AfterValidator, AwareDatetime

from app.errors import Forbidden
from app.http.auth import Gate
from app.http.idempotency import MAX_KEY, OnceRunner, Repeats
from app.principal import Principal, Role


def _reckonable(moment: datetime) -> datetime:
    # Near the ends of the calendar a time cannot be put into UTC, nor a period be taken from it.
    if not 1970 <= moment.year <= 9998:
        raise ValueError("the year must be between 1970 and 9998")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_reckonable)]


class _UserAuth(SecurityBase):
    """The principal that the edge admitted; admits one on paths that the edge leaves open."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An API key or an end user's token: `Authorization: Bearer …`")
        self.scheme_name = "BearerUser"

    async def __call__(self, request: Request) -> Principal:
        gate: Gate = request.app.state.gate
        return await gate.admit(request.scope)


class _KeyAuth(_UserAuth):
    """As `_UserAuth`, but an end user is refused: what does not ask for users by name is not theirs."""

    def __init__(self) -> None:
        self.model = HTTPBearer(description="An API key: `Authorization: Bearer trl_…`")
        self.scheme_name = "BearerKey"

    async def __call__(self, request: Request) -> Principal:
        principal = await super().__call__(request)
        if principal.role is Role.USER:
            raise Forbidden("This address is not for end users: it needs an API key of the tenant.")
        return principal


CurrentPrincipal = Annotated[Principal, Security(_KeyAuth())]
CurrentUser = Annotated[Principal, Security(_UserAuth())]
"""The holder of an API key, or an end user: for endpoints that give each their own."""


def require(role: Role) -> Any:
    """A dependency that gives the principal and raises Forbidden below `role`.

    `dependencies=[require(Role.ADMIN)]` on a route, or `Annotated[Principal, require(Role.ADMIN)]`.
    """

    async def checked(principal: CurrentPrincipal) -> Principal:
        principal.require(role)
        return principal

    return Depends(checked)


Agent = Annotated[Principal, require(Role.AGENT)]
Admin = Annotated[Principal, require(Role.ADMIN)]


def user_limit(name: str, per_minute: int, *, keys: bool = True) -> Any:
    """A dependency that counts the request of a `CurrentUser` against a limit of each user's own.

    `dependencies=[user_limit("claims-chat", 10)]` on a route; raises RateLimited beyond it. Without `keys` the holder
    of an API key, who may speak for many, is bounded by the key's own rate alone.
    """

    async def counted(request: Request, principal: CurrentUser) -> None:
        if keys or principal.role is Role.USER:
            gate: Gate = request.app.state.gate
            await gate.spend_user(request.scope, name, per_minute)

    return Depends(counted)


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
