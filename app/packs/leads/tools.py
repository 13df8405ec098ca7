"""The lead agent's tools. What is written, to whom and where, comes from the lead's record, never from the model."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.agent.tools import Effect, Tool, ToolContext
from app.clock import Clock
from app.integrations.base import Booking, Calendar, Contact, ContactRef, Crm, Mail, Mailer, Slot
from app.integrations.errors import SlotTaken
from app.knowledge.retrieve import Retriever

BOT = "leads"
MEETING_MINUTES = 30
BOOKING_ATTEMPTS = 8
SLOTS_TO_CHOOSE_FROM = 100
DAYS_AHEAD = 10


class _Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SearchArgs(_Args):
    query: str = Field(min_length=1, max_length=500)


class SlotsArgs(_Args):
    days_ahead: int = Field(DAYS_AHEAD, ge=1, le=30)


class UpsertArgs(_Args):
    email: str
    name: str
    company: str | None = None
    phone: str | None = None
    properties: dict[str, str] = Field(default_factory=dict)


class NoteArgs(_Args):
    contact_id: str
    text: str


class BookArgs(_Args):
    start: datetime
    end: datetime
    email: str
    title: str
    description: str


class EmailArgs(_Args):
    to: str
    subject: str
    body: str


def build_tools(
    *, crm: Crm, calendar: Calendar, mailer: Mailer, retriever: Retriever, clock: Clock
) -> tuple[Tool, ...]:
    """The pack's tools over the integrations that the settings chose.

    The two reading tools may be called by the model; the four writing ones only by `act.py`.
    """
    return (
        _knowledge_search(retriever),
        _calendar_free_slots(calendar, clock),
        _crm_upsert(crm),
        _crm_note(crm),
        _calendar_book(calendar, clock),
        _email_send(mailer),
    )


def _knowledge_search(retriever: Retriever) -> Tool:
    async def run(context: ToolContext, args: SearchArgs) -> list[dict[str, Any]]:
        found = await retriever.search(context.principal.tenant_id, BOT, args.query)
        return [{"id": p.chunk_id, "title": p.title, "text": p.text, "score": round(p.score, 3)} for p in found]

    return Tool("knowledge_search", "Search the company's knowledge pages.", SearchArgs, run, Effect.READ, timeout_s=5)


def _calendar_free_slots(calendar: Calendar, clock: Clock) -> Tool:
    async def run(context: ToolContext, args: SlotsArgs) -> list[dict[str, str]]:
        slots = await free_slots(calendar, context.principal.tenant_id, clock(), days=args.days_ahead)
        return [{"start": s.start.isoformat(), "end": s.end.isoformat()} for s in slots]

    return Tool("calendar_free_slots", "List free meeting times of the sales team.", SlotsArgs, run, Effect.READ)


def _crm_upsert(crm: Crm) -> Tool:
    async def run(context: ToolContext, args: UpsertArgs) -> Mapping[str, Any]:
        contact = Contact(args.email, args.name, args.company or "", args.phone or "", args.properties)
        ref = await crm.upsert_contact(context.principal.tenant_id, contact, key=context.key)
        return {"id": ref.id, "url": ref.url}

    what = "Create or update the contact in the CRM."
    return Tool("crm_upsert", what, UpsertArgs, run, Effect.WRITE, idempotent=crm.idempotent)


def _crm_note(crm: Crm) -> Tool:
    async def run(context: ToolContext, args: NoteArgs) -> Mapping[str, Any]:
        ref = ContactRef(args.contact_id)
        return {"id": await crm.add_note(context.principal.tenant_id, ref, args.text, key=context.key)}

    what = "Add a note to the contact."
    return Tool("crm_note", what, NoteArgs, run, Effect.WRITE, idempotent=crm.idempotent)


def _calendar_book(calendar: Calendar, clock: Clock) -> Tool:
    async def run(context: ToolContext, args: BookArgs) -> Mapping[str, Any]:
        booking = await book_nearest(calendar, clock(), context, args)
        slot = booking.slot
        return {"id": booking.id, "start": slot.start.isoformat(), "end": slot.end.isoformat(), "url": booking.url}

    what = "Book a meeting with the lead."
    return Tool("calendar_book", what, BookArgs, run, Effect.WRITE, idempotent=calendar.idempotent)


def _email_send(mailer: Mailer) -> Tool:
    async def run(context: ToolContext, args: EmailArgs) -> Mapping[str, Any]:
        sent = await mailer.send(context.principal.tenant_id, Mail(args.to, args.subject, args.body), key=context.key)
        return {"id": sent.id}

    what = "Send an e-mail to the lead."
    return Tool("email_send", what, EmailArgs, run, Effect.WRITE, idempotent=mailer.idempotent)


async def book_nearest(calendar: Calendar, now: datetime, context: ToolContext, args: BookArgs) -> Booking:
    """Books the wanted slot, or where somebody was faster the nearest one that is free.

    Raises SlotTaken where each of eight slots was taken while it was tried.
    """
    tenant_id = context.principal.tenant_id
    wanted = Slot(args.start, args.end)
    for _ in range(BOOKING_ATTEMPTS - 1):
        try:
            return await calendar.book(tenant_id, wanted, args.email, args.title, args.description, key=context.key)
        except SlotTaken:
            free = await free_slots(calendar, tenant_id, now, limit=SLOTS_TO_CHOOSE_FROM)
            wanted = min(free, key=lambda slot: abs(slot.start - args.start), default=wanted)
    return await calendar.book(tenant_id, wanted, args.email, args.title, args.description, key=context.key)


async def free_slots(
    calendar: Calendar, tenant_id: str, now: datetime, *, days: int = DAYS_AHEAD, limit: int = 6
) -> list[Slot]:
    """Free half hours from tomorrow on, `days` ahead, earliest first."""
    return await calendar.free_slots(
        tenant_id, now + timedelta(days=1), now + timedelta(days=1 + days), MEETING_MINUTES, limit
    )
