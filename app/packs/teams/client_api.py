"""`/v1/teams/clients`: clients and what is known of them go in, their health comes out."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from app.http.deps import Admin, Agent, CurrentPrincipal
from app.packs.teams.client_reading import read_clients
from app.packs.teams.client_schemas import ClientDetail, ClientPage, ClientReport, HealthOut, HistoryPage
from app.packs.teams.clients import ClientService
from app.packs.teams.health import HealthState

CLIENTS_PATH = "/v1/teams/clients"
Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=200)]
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": {"type": "object"}, "description": "Clients with their signals"}
            },
            "text/csv": {"schema": {"type": "string", "description": "A header line, then a signal a line"}},
        },
    }
}


def build_clients_router(service: ClientService) -> APIRouter:
    router = APIRouter(tags=["teams"])
    _add_writing(router, service)
    _add_reading(router, service)
    return router


def _add_writing(router: APIRouter, service: ClientService) -> None:
    @router.put(CLIENTS_PATH, openapi_extra=_BODY, summary="Add or change clients, and add what is known of them")
    async def put_clients(request: Request, principal: Admin) -> ClientReport:
        """All of the body or nothing; the same body again changes nothing. A signal is known by its `key`.

        A client has `external_id`, `name`, `email`, `crm_id`, `repository` (owner/name), `attributes` and `signals`; a
        signal has `key`, `kind` (activity, ticket_opened, ticket_solved, message), `at`, `quantity`, `ref` (joins a
        ticket's opening and solving), `priority` (low, medium, high, urgent) and `text`. As CSV: these columns without
        `attributes`, a signal a line.
        """
        body = await request.body()
        given = await asyncio.to_thread(read_clients, request.headers.get("content-type", ""), body)
        return await service.put(principal, given.root)

    @router.post(CLIENTS_PATH + "/{client}/score", status_code=201, summary="Score a client now")
    async def score(
        client: str,
        principal: Agent,
        sync: Annotated[bool, Query(description="Ask the CRM and the code's host for news first")] = True,
    ) -> HealthOut:
        return await service.score(principal, client, sync=sync)

    @router.delete(CLIENTS_PATH + "/{client}", status_code=204, summary="Delete a client, its signals and scores")
    async def delete(client: str, principal: Admin) -> None:
        await service.delete(principal, client)


def _add_reading(router: APIRouter, service: ClientService) -> None:
    @router.get(CLIENTS_PATH, summary="Clients with their newest score, newest first")
    async def list_clients(
        principal: CurrentPrincipal,
        state: HealthState | None = None,
        name: Annotated[str, Query(max_length=200, description="Words that the name holds")] = "",
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> ClientPage:
        return await service.page(principal, state, name, cursor, limit)

    @router.get(CLIENTS_PATH + "/{client}", summary="A client and its health, factor by factor")
    async def get_client(client: str, principal: CurrentPrincipal) -> ClientDetail:
        """`client` is its external id, or ours."""
        return await service.one(principal, client)

    @router.get(CLIENTS_PATH + "/{client}/history", summary="A client's scores, newest first")
    async def history(
        client: str, principal: CurrentPrincipal, cursor: Cursor = None, limit: Limit = 50
    ) -> HistoryPage:
        return await service.history(principal, client, cursor, limit)
