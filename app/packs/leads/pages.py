"""The lead agent's part of the console: endpoint -> service, as in `api.py`, answered with pages."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.errors import InvalidInput
from app.governance.decisions import DecisionRepository
from app.governance.models import Decision
from app.pack import Kit
from app.packs.leads.business import BusinessMetrics
from app.packs.leads.decide import load_decision
from app.packs.leads.gather import PACK
from app.packs.leads.models import Action, Direction, Lead, LeadFeedback, LeadStatus, OutcomeKind
from app.packs.leads.repository import FeedbackRepository, LeadRepository, MessageRepository
from app.packs.leads.schemas import FeedbackIn, LeadDetail, LeadIn, MessageIn, OutcomeIn
from app.packs.leads.service import LeadFilter, LeadService
from app.packs.leads.views import PHRASES, figures, view_of
from app.principal import Principal, Role
from app.web.forms import read_form
from app.web.pack_pages import NavEntry, PackPages, Subject
from app.web.pages.decisions import subjects_of
from app.web.paging import query_of
from app.web.places import BASE, DECISIONS
from app.web.shell import ConsolePrincipal, CurrentShell, Shell

LEADS = f"{BASE}/{PACK}"
PAGE = 50
LATEST = 12
# After that a page no longer asks by itself whether something has changed.
PATIENCE = timedelta(minutes=10)
SOURCES: tuple[str, ...] = get_args(LeadIn.model_fields["source"].annotation)
WORDS = {
    "crm_upsert": "Contact in the CRM",
    "crm_note": "Note on the contact",
    "calendar_book": "Meeting in the calendar",
    "email_send": "E-mail",
    "knowledge_search": "Search of the knowledge base",
    "calendar_free_slots": "Free meeting times",
}
FIELDS = ("name", "email", "company", "phone", "language", "country")


def build_pages(kit: Kit, service: LeadService) -> PackPages:
    routes = APIRouter()
    _add_overview(routes, kit, service)
    _add_intake(routes, kit, service)
    _add_leads(routes, kit, service)
    _add_lead(routes, kit, service)
    _add_judging(routes, kit, service)
    return PackPages(
        router=routes,
        nav=(NavEntry("Overview", f"{LEADS}/overview"), NavEntry("Leads", LEADS)),
        templates=Path(__file__).with_name("templates"),
        words=WORDS,
        subjects=_subjects,
        describe=_describe,
    )


async def _subjects(session: AsyncSession, tenant_id: str, ids: Sequence[str]) -> Mapping[str, Subject]:
    leads = await LeadRepository(session, tenant_id).all(Lead.id.in_(ids))
    return {
        lead.id: Subject(f"{lead.name}, {lead.company}" if lead.company else lead.name, f"{LEADS}/{lead.id}")
        for lead in leads
    }


async def _describe(session: AsyncSession, tenant_id: str, decision: Decision) -> Mapping[str, Any]:
    message = await MessageRepository(session, tenant_id).find(decision.trigger_id)
    feedback = await FeedbackRepository(session, tenant_id).all(LeadFeedback.decision_id == decision.id)
    return {
        "phrase": PHRASES[decision.action],
        "view": view_of(decision),
        "message": message,
        "feedback": feedback,
        "actions": list(Action),
    }


def _add_overview(routes: APIRouter, kit: Kit, service: LeadService) -> None:
    business = BusinessMetrics(kit)

    @routes.get("/overview")
    async def overview(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        report = await business.report(principal, None, None)
        live = await _live(shell, kit, service, principal)
        total = report.total
        return shell.page(request, "leads/overview.html", report=report, figures=figures(total), **live)

    @routes.get("/overview/live")
    async def live_part(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        return shell.page(request, "leads/live.html", **await _live(shell, kit, service, principal))


async def _live(shell: Shell, kit: Kit, service: LeadService, principal: Principal) -> dict[str, Any]:
    """The part of the overview that moves while leads wait to be decided."""
    async with kit.ports.db.reading(principal.tenant_id) as session:
        counts = await service.counts(session, principal)
        found = await DecisionRepository(session, principal.tenant_id).page(limit=LATEST)
        subjects = await subjects_of(shell, session, principal, found.items)
    stopped = kit.flags.killed(PACK, principal.tenant_id)
    waiting = counts.by_status[LeadStatus.NEW]
    return {"counts": counts, "waiting": waiting, "stopped": stopped, "decisions": found.items, "subjects": subjects}


def _add_intake(routes: APIRouter, kit: Kit, service: LeadService) -> None:
    @routes.get("/new")
    async def new_lead(request: Request, shell: CurrentShell, principal: ConsolePrincipal) -> Response:
        principal.require(Role.AGENT)
        return shell.page(request, "leads/new.html", fields=FIELDS, sources=SOURCES)

    @routes.post("/new")
    async def create_lead(request: Request, principal: ConsolePrincipal) -> Response:
        body = await read_form(request, LeadIn)
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            accepted = await service.create(session, principal, body)
        return RedirectResponse(f"{LEADS}/{accepted.lead.id}", 303)


def _add_leads(routes: APIRouter, kit: Kit, service: LeadService) -> None:
    @routes.get("")
    async def list_leads(
        request: Request,
        shell: CurrentShell,
        principal: ConsolePrincipal,
        status: Annotated[str, Query(max_length=20)] = "",
        source: Annotated[str, Query(max_length=50)] = "",
        email: Annotated[str, Query(max_length=320)] = "",
        cursor: Annotated[str | None, Query(max_length=64)] = None,
    ) -> Response:
        wanted = {"status": status, "source": source, "email": email.strip()}
        chosen = LeadFilter(_status(status), source or None, email.strip() or None)
        async with kit.ports.db.reading(principal.tenant_id) as session:
            found = await service.page(session, principal, chosen, cursor, PAGE)
        return shell.page(
            request,
            "leads/list.html",
            leads=found.items,
            wanted=wanted,
            choices={"status": list(LeadStatus), "source": SOURCES},
            cursor=cursor,
            first=query_of(wanted),
            more=query_of(wanted, found.next_cursor) if found.next_cursor else None,
        )


def _status(text: str) -> LeadStatus | None:
    if text and text not in set(LeadStatus):
        raise InvalidInput(f"A lead's status is one of {', '.join(LeadStatus)}.")
    return LeadStatus(text) if text else None


def _add_lead(routes: APIRouter, kit: Kit, service: LeadService) -> None:
    @routes.get("/{lead_id}")
    async def show_lead(request: Request, shell: CurrentShell, principal: ConsolePrincipal, lead_id: str) -> Response:
        values = await _lead(kit, service, principal, lead_id)
        return shell.page(request, "leads/lead.html", outcomes=list(OutcomeKind), **values)

    @routes.get("/{lead_id}/live")
    async def story(request: Request, shell: CurrentShell, principal: ConsolePrincipal, lead_id: str) -> Response:
        return shell.page(request, "leads/story.html", **await _lead(kit, service, principal, lead_id))

    @routes.post("/{lead_id}/messages")
    async def add_message(request: Request, principal: ConsolePrincipal, lead_id: str) -> Response:
        body = await read_form(request, MessageIn)
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            await service.add_message(session, principal, lead_id, body)
        return RedirectResponse(f"{LEADS}/{lead_id}", 303)

    @routes.post("/{lead_id}/outcome")
    async def record_outcome(request: Request, principal: ConsolePrincipal, lead_id: str) -> Response:
        body = await read_form(request, OutcomeIn)
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            await service.record_outcome(session, principal, lead_id, body)
        return RedirectResponse(f"{LEADS}/{lead_id}", 303)


async def _lead(kit: Kit, service: LeadService, principal: Principal, lead_id: str) -> dict[str, Any]:
    async with kit.ports.db.reading(principal.tenant_id) as session:
        lead = await service.detail(session, principal, lead_id)
        decisions = await DecisionRepository(session, principal.tenant_id).of_subject(PACK, lead_id)
    decided = {decision.trigger_id for decision in decisions}
    waiting = is_waiting(lead, decided) and kit.ports.clock() - lead.updated_at < PATIENCE
    return {"lead": lead, "decisions": {d.id: d for d in decisions}, "waiting": waiting}


def is_waiting(lead: LeadDetail, decided: set[str]) -> bool:
    """Whether a message of the lead is still to be decided, or its decision to be carried out for the first time."""
    inbound = [message.id for message in lead.messages if message.direction == Direction.INBOUND]
    given_up = lead.timeline and lead.timeline[-1].kind == "undecided"
    return not given_up and (lead.status is LeadStatus.NEW or any(message not in decided for message in inbound))


def _add_judging(routes: APIRouter, kit: Kit, service: LeadService) -> None:
    @routes.post("/decisions/{decision_id}/feedback")
    async def judge(request: Request, principal: ConsolePrincipal, decision_id: str) -> Response:
        given = await read_form(request, FeedbackIn)
        body = given.model_copy(update={"decision_id": decision_id})
        async with kit.ports.db.transaction(principal.tenant_id) as session:
            decision = await load_decision(session, principal, decision_id)
            await service.record_feedback(session, principal, decision.subject_id, body)
        return RedirectResponse(f"{DECISIONS}/{decision_id}?notice=judged", 303)
