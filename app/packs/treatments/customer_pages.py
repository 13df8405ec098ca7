"""The console's pages of customers: who there is, and the whole story of what was decided about one."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from starlette.responses import Response

from app.errors import NotFound
from app.pack import Kit
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.customers import CustomerService
from app.packs.treatments.lanes import PACK
from app.packs.treatments.page_views import RESULT_KINDS, RUN_KINDS, segments_of, titles_of
from app.packs.treatments.story import Stories
from app.principal import Principal
from app.web.paging import query_of
from app.web.places import BASE
from app.web.shell import ConsolePrincipal, CurrentShell

CUSTOMERS: Final = f"{BASE}/{PACK}/customers"
PAGE: Final = 50
Text = Annotated[str, Query(max_length=128)]


def add_customers(routes: APIRouter, kit: Kit) -> None:
    _add_list(routes, kit)
    _add_story(routes, kit)


def _add_list(routes: APIRouter, kit: Kit) -> None:
    service = CustomerService(kit)

    @routes.get("/customers")
    async def list_customers(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        name: Text = "",
        segment: Text = "",
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        name = name.strip()
        found = await _find(kit, principal, name) if name else None
        if found is not None:
            return RedirectResponse(f"{CUSTOMERS}/{found}", 303)
        page = await service.page(principal, segment or None, cursor, PAGE)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            segments = await segments_of(session, principal.tenant_id)
        wanted = {"segment": segment}
        return shell.page(
            request,
            "treatments/customers.html",
            customers=page.items,
            segments=segments,
            segment=segment,
            missed=name,
            cursor=cursor,
            first=query_of(wanted),
            more=query_of(wanted, page.next_cursor) if page.next_cursor else None,
        )


async def _find(kit: Kit, principal: Principal, name: str) -> str | None:
    """Our id of the customer whom the tenant calls so."""
    async with kit.ports.db.reading(principal.tenant_id) as session:
        try:
            return (await CustomerRepository(session, principal.tenant_id).named(name)).id
        except NotFound:
            return None


def _add_story(routes: APIRouter, kit: Kit) -> None:
    stories, service = Stories(kit), CustomerService(kit)

    @routes.get("/customers/{customer}")
    async def show_story(request: Request, shell: CurrentShell, principal: ConsolePrincipal, customer: str) -> Response:
        story = await stories.of(principal, customer)
        detail = await service.get(principal, story.customer_id)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            titles = await titles_of(session, principal.tenant_id)
        return shell.page(
            request,
            "treatments/customer.html",
            story=story,
            customer=detail,
            titles=titles,
            results=RESULT_KINDS,
            runs=RUN_KINDS,
        )
