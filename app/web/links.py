"""`/v1/console/links`: whoever holds a key may open the console with it in a browser, without pasting the key."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel

from app.http.deps import CurrentPrincipal
from app.web import places
from app.web.services import Services
from app.web.signing import make_ticket, read_ticket, signing_key


class SignInLink(BaseModel):
    """Good once, until `expires_at`. Whoever opens it acts as the key's owner: pass it on to nobody."""

    path: str
    expires_at: datetime


def links_router(container: Services) -> APIRouter:
    router = APIRouter(tags=["console"])
    key = signing_key(container.settings)

    @router.post("/v1/console/links", status_code=201, summary="A one-time sign-in link to the console")
    async def make_link(principal: CurrentPrincipal) -> SignInLink:
        token = make_ticket(key, principal.actor, container.clock())
        ticket = read_ticket(key, token, container.clock())
        assert ticket is not None
        return SignInLink(path=f"{places.BASE}/sign-in?ticket={token}", expires_at=ticket.expires_at)

    return router
