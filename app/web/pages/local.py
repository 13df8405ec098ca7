"""The embedded outbox, calendar and CRM, where those are the ones in use."""

from collections.abc import Callable
from datetime import timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.integrations.local import ContactRepository, list_bookings, list_contacts, list_notes, list_outbox
from app.settings import CalendarKind, CrmKind, MailerKind, Settings
from app.web.shell import ConsolePrincipal, CurrentShell

SHOWN = 200


def router(settings: Settings) -> APIRouter:
    routes = APIRouter()
    parts: tuple[tuple[bool, Callable[[APIRouter], None]], ...] = (
        (settings.mailer is MailerKind.LOCAL, _add_outbox),
        (settings.calendar is CalendarKind.LOCAL, _add_calendar),
        (settings.crm is CrmKind.LOCAL, _add_contacts),
    )
    for used, add in parts:
        if used:
            add(routes)
    return routes


def _add_outbox(routes: APIRouter) -> None:
    @routes.get("/outbox")
    async def outbox(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            mails = await list_outbox(session, principal.tenant_id, SHOWN)
        return shell.page(request, "outbox.html", mails=mails, shown=SHOWN)


def _add_calendar(routes: APIRouter) -> None:
    @routes.get("/calendar")
    async def calendar(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        today = shell.services.clock() - timedelta(days=1)
        async with shell.services.db.reading(principal.tenant_id) as session:
            bookings = await list_bookings(session, principal.tenant_id, today, SHOWN)
        return shell.page(request, "calendar.html", bookings=bookings, shown=SHOWN)


def _add_contacts(routes: APIRouter) -> None:
    @routes.get("/contacts")
    async def contacts(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            found = await list_contacts(session, principal.tenant_id, SHOWN)
        return shell.page(request, "contacts.html", contacts=found, shown=SHOWN)

    @routes.get("/contacts/{contact_id}")
    async def contact(request: Request, shell: CurrentShell, principal: ConsolePrincipal, contact_id: str) -> Response:
        async with shell.services.db.reading(principal.tenant_id) as session:
            found = await ContactRepository(session, principal.tenant_id).get(contact_id)
            notes = await list_notes(session, principal.tenant_id, contact_id, SHOWN)
        return shell.page(request, "contact.html", contact=found, notes=notes)
