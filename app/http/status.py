"""`/v1/status`: what runs here."""

from typing import Protocol

from fastapi import APIRouter
from pydantic import BaseModel

from app.governance.flags import Flags
from app.http.deps import CurrentPrincipal
from app.settings import Settings


class Running(Protocol):
    @property
    def settings(self) -> Settings: ...
    @property
    def flags(self) -> Flags: ...
    @property
    def model(self) -> str: ...


class Status(BaseModel):
    """`stopped` names the packs that a kill switch stops for the caller's tenant."""

    phase: str
    model: str
    stopped: list[str]


def status_router(running: Running) -> APIRouter:
    router = APIRouter(tags=["status"])

    @router.get("/v1/status", summary="The phase, the model, what is stopped")
    async def status(principal: CurrentPrincipal) -> Status:
        switches = [name for name in running.flags.specs if name.startswith("kill.")]
        stopped = [name for name in switches if running.flags.bool(name, principal.tenant_id)]
        return Status(
            phase=running.settings.phase, model=running.model, stopped=[n.removeprefix("kill.") for n in stopped]
        )

    return router
