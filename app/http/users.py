"""`/v1/users`: the tenant's application signs an end user in."""

from datetime import datetime
from typing import Annotated, Literal, Protocol

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from app.governance.audit import Audit
from app.governance.user_tokens import DEFAULT_TTL_S, MAX_TTL_S, UserTokens
from app.http.deps import CurrentPrincipal
from app.storage.db import Database


class Issuing(Protocol):
    @property
    def db(self) -> Database: ...
    @property
    def audit(self) -> Audit: ...
    @property
    def users(self) -> UserTokens: ...


class TokenIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ttl_s: int = Field(DEFAULT_TTL_S, ge=1, le=MAX_TTL_S)


class TokenOut(BaseModel):
    """`token` goes to the user's own client, which sends it as `Authorization: Bearer <token>`."""

    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the kind of token
    user_id: str
    expires_at: datetime


def users_router(issuing: Issuing) -> APIRouter:
    router = APIRouter(tags=["users"])

    @router.post("/v1/users/{user_id}/token", status_code=201, summary="A short-lived token for one of your users")
    async def issue_token(
        user_id: str,
        principal: CurrentPrincipal,
        body: Annotated[TokenIn, Body()] = TokenIn(),  # noqa: B008 - frozen
    ) -> TokenOut:
        """Call it from your server once you know who the user is.

        The token reaches that user's own data only, on the addresses that are made for users, and ends with the API
        key that issued it. `user_id` is your system's id of the user: letters, digits and `._:|-`, no e-mail address.
        """
        issued = await issuing.users.issue(principal, user_id, body.ttl_s)
        async with issuing.db.transaction(principal.tenant_id) as session:
            data = {"token": issued.id, "ttl_s": body.ttl_s}
            await issuing.audit.record(session, principal, "user.token_issued", issued.user_id, data)
        return TokenOut(token=issued.token, user_id=issued.user_id, expires_at=issued.expires_at)

    return router
