"""`/v1/treatments/customers`, `/outcomes`, `/catalogue`: what runs work on, and what came of them."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request

from app.http.deps import Admin, Agent, CurrentPrincipal
from app.pack import Kit
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.customers import CustomerService
from app.packs.treatments.outcomes import Outcomes
from app.packs.treatments.reading import read_customers, read_outcomes
from app.packs.treatments.schemas import (
    CatalogueOut,
    CatalogueVersions,
    CustomerDetail,
    CustomerIn,
    CustomerPage,
    ImportReport,
    OutcomeIn,
    OutcomesReport,
)
from app.packs.treatments.versions import Catalogues

CUSTOMERS_PATH: Final = "/v1/treatments/customers"
OUTCOMES_PATH: Final = "/v1/treatments/outcomes"
CATALOGUE_PATH: Final = "/v1/treatments/catalogue"
DATA_PATHS: Final = (CUSTOMERS_PATH, OUTCOMES_PATH)
"""They take bodies up to `max_batch_body_bytes`."""
Name = Annotated[str, Path(min_length=1, max_length=128, description="Your own id of the customer, or ours")]
Cursor = Annotated[str | None, Query(max_length=64)]
Limit = Annotated[int, Query(ge=1, le=200)]


def build_data_router(kit: Kit) -> APIRouter:
    router = APIRouter(tags=["treatments"])
    _add_customers(router, CustomerService(kit))
    _add_outcomes(router, kit)
    _add_catalogue(router, Catalogues(kit))
    return router


def _body(item: dict[str, Any], csv: str) -> dict[str, Any]:
    """The request body for the API's description: the endpoint reads it itself, for it comes in three forms."""
    named = item.pop("$defs", {})
    for field in item["properties"].values():
        inner = field.get("items", {})
        if "$ref" in inner:
            field["items"] = named[inner["$ref"].rpartition("/")[2]]
    content = {
        "application/json": {"schema": {"type": "array", "items": item}},
        "application/x-ndjson": {"schema": {"type": "string", "description": "One of them a line"}},
        "text/csv": {"schema": {"type": "string", "description": csv}},
    }
    return {"requestBody": {"required": True, "content": content}}


def _add_customers(router: APIRouter, service: CustomerService) -> None:
    body = _body(CustomerIn.model_json_schema(), "A header line, then an event of a customer a line")

    @router.put(CUSTOMERS_PATH, openapi_extra=body, summary="Add or change customers and their events")
    async def put_customers(request: Request, principal: Agent) -> ImportReport:
        """All of the body or nothing; the same body again changes nothing.

        As CSV the columns are `external_id`, `email`, `segment`, `fair_group`, `worth_usd`, `event_key`, `event_at`,
        `event_kind`, `event_channel`, `event_amount_usd` and `event_text`; every other column is an attribute.
        """
        raw = await request.body()
        given = await asyncio.to_thread(read_customers, request.headers.get("content-type", ""), raw)
        return await service.put(principal, given)

    @router.get(CUSTOMERS_PATH, summary="Customers, newest first")
    async def list_customers(
        principal: CurrentPrincipal,
        segment: Annotated[str | None, Query(max_length=60)] = None,
        cursor: Cursor = None,
        limit: Limit = 50,
    ) -> CustomerPage:
        return await service.page(principal, segment, cursor, limit)

    @router.get(f"{CUSTOMERS_PATH}/{{customer}}", summary="A customer with their newest events")
    async def get_customer(customer: Name, principal: CurrentPrincipal) -> CustomerDetail:
        return await service.get(principal, customer)

    @router.delete(f"{CUSTOMERS_PATH}/{{customer}}", status_code=204, summary="Remove a customer and all about them")
    async def delete_customer(customer: Name, principal: Agent) -> None:
        """Events, outcomes, results and reservations go with them. What they taught stays as counts of nobody."""
        await service.delete(principal, customer)


def _add_outcomes(router: APIRouter, kit: Kit) -> None:
    outcomes = Outcomes(kit.ports.clock, kit.audit)
    body = _body(OutcomeIn.model_json_schema(), "A header line, then an outcome a line")

    @router.post(OUTCOMES_PATH, openapi_extra=body, summary="Record what came of treatments, or of none")
    async def record_outcomes(request: Request, principal: Agent) -> OutcomesReport:
        """All of the body or nothing. An outcome whose `key` is known counts once.

        As CSV the columns are `key`, `customer`, `treatment`, `run_id`, `success`, `value_usd` and `at`. An outcome
        without a `run_id` teaches later runs, and counts in no run's evaluation.
        """
        raw = await request.body()
        given = await asyncio.to_thread(read_outcomes, request.headers.get("content-type", ""), raw)
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            return await outcomes.record(session, principal, given)


def _add_catalogue(router: APIRouter, catalogues: Catalogues) -> None:
    @router.put(CATALOGUE_PATH, summary="Say what may be done, within which limits")
    async def put_catalogue(body: CatalogueIn, principal: Admin) -> CatalogueOut:
        """A new version, in force at once, where anything in it differs from the one before."""
        return await catalogues.put(principal, body)

    @router.get(CATALOGUE_PATH, summary="The catalogue in force, or a version of it")
    async def get_catalogue(
        principal: CurrentPrincipal, version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
    ) -> CatalogueOut:
        return await catalogues.get(principal, version)

    @router.get(f"{CATALOGUE_PATH}/versions", summary="Versions of the catalogue, newest first")
    async def list_versions(principal: CurrentPrincipal, cursor: Cursor = None, limit: Limit = 50) -> CatalogueVersions:
        return await catalogues.page(principal, cursor, limit)
