"""The console's pages of clients: the unhealthiest first, and the score of one factor by factor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.errors import InvalidInput
from app.pack import Kit
from app.packs.teams.client_repository import ClientRepository, SignalRepository
from app.packs.teams.client_schemas import ClientDetail
from app.packs.teams.clients import ClientService
from app.packs.teams.health import HEALTHY_FROM, MESSAGES, WATCH_FROM, HealthState
from app.packs.teams.models import HealthScore, SignalKind
from app.packs.teams.team import PACK
from app.principal import Principal
from app.web.places import BASE
from app.web.shell import ConsolePrincipal, CurrentShell

CLIENTS: Final = f"{BASE}/{PACK}/clients"
MOST: Final = 100
HISTORY: Final = timedelta(days=180)
SIGNALS: Final = 10
HEALTH_KINDS: Final[Mapping[str, str]] = {
    HealthState.HEALTHY: "done",
    HealthState.WATCH: "waiting",
    HealthState.AT_RISK: "failed",
}
"""The badge of each state of health."""


@dataclass(frozen=True, slots=True)
class Line:
    """Scores over time, oldest first, as a line in a box of 100 by 100: the score goes up, time to the right."""

    scores: Sequence[tuple[datetime, float]]

    @property
    def points(self) -> str:
        """As SVG has it; "" below two scores."""
        if len(self.scores) < 2:
            return ""
        begin = self.scores[0][0]
        length = (self.scores[-1][0] - begin).total_seconds() or 1.0
        placed = ((100 * (at - begin).total_seconds() / length, 100 - score) for at, score in self.scores)
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in placed)

    @property
    def words(self) -> str:
        """The line for those who do not see it."""
        (begin, first), (end, last) = self.scores[0], self.scores[-1]
        return f"{first:.0f} on {begin:%d %b %Y}, {last:.0f} on {end:%d %b %Y}"


def add_clients(routes: APIRouter, kit: Kit, service: ClientService) -> None:
    _add_list(routes, kit)
    _add_client(routes, kit, service)


def _add_list(routes: APIRouter, kit: Kit) -> None:
    @routes.get("/clients")
    async def list_clients(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        state: Annotated[str, Query(max_length=20)] = "",
        name: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        chosen, name = _state(state), name.strip()
        since = kit.ports.clock() - HISTORY
        async with kit.ports.db.reading(principal.tenant_id) as session:
            found = await ClientRepository(session, principal.tenant_id).lowest(chosen, name, MOST)
            lines = await lines_of(session, principal.tenant_id, [client.id for client, _ in found], since)
        return shell.page(
            request,
            "teams/clients.html",
            found=found,
            lines=lines,
            most=MOST,
            states=list(HealthState),
            wanted={"state": state, "name": name},
            kinds=HEALTH_KINDS,
        )


def _state(text: str) -> HealthState | None:
    if text and text not in set(HealthState):
        raise InvalidInput(f"A client's state is one of {', '.join(HealthState)}.")
    return HealthState(text) if text else None


def _add_client(routes: APIRouter, kit: Kit, service: ClientService) -> None:
    @routes.get("/clients/{client}")
    async def show_client(request: Request, shell: CurrentShell, principal: ConsolePrincipal, client: str) -> Response:
        found = await service.one(principal, client)
        return shell.page(request, "teams/client.html", client=found, **await _known(kit, principal, found))

    @routes.post("/clients/{client}/score")
    async def score_now(principal: ConsolePrincipal, client: str) -> Response:
        await service.score(principal, client)
        return RedirectResponse(f"{CLIENTS}/{client}", 303)


async def _known(kit: Kit, principal: Principal, client: ClientDetail) -> dict[str, Any]:
    """What a client's page shows beside the score: its history, and the newest of what it rests on."""
    now, tenant_id = kit.ports.clock(), principal.tenant_id
    async with kit.ports.db.reading(principal.tenant_id) as session:
        signals = SignalRepository(session, tenant_id)
        tickets = await signals.open_tickets(client.id, SIGNALS)
        messages = await signals.newest(client.id, (SignalKind.MESSAGE,), now - MESSAGES, SIGNALS)
        lines = await lines_of(session, tenant_id, [client.id], now - HISTORY)
    return {
        "line": lines.get(client.id),
        "tickets": tickets,
        "messages": [message for message in messages if message.text],
        "kinds": HEALTH_KINDS,
        "limits": (WATCH_FROM, HEALTHY_FROM),
    }


async def lines_of(
    session: AsyncSession, tenant_id: str, client_ids: Sequence[str], since: datetime
) -> dict[str, Line]:
    """The scores of clients since then; those without any are left out."""
    query = select(HealthScore.client_id, HealthScore.at, HealthScore.score).where(
        HealthScore.tenant_id == tenant_id, HealthScore.client_id.in_(client_ids), HealthScore.at >= since
    )
    rows = await session.execute(query.order_by(HealthScore.client_id, HealthScore.at, HealthScore.id))
    return {own: Line([(row[1], row[2]) for row in some]) for own, some in groupby(rows, key=lambda row: str(row[0]))}
