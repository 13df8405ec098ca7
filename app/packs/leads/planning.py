"""From a verdict to the writes that carry it out: a table by action, every argument taken from the record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.agent.tools import ToolCallPlan
from app.packs.leads.facts import SlotFacts
from app.packs.leads.models import Action, Lead

WRITES: Mapping[Action, tuple[str, ...]] = {
    Action.RESPOND: ("crm_upsert", "email_send", "crm_note"),
    Action.SCHEDULE: ("calendar_book", "crm_upsert", "email_send", "crm_note"),
    Action.NURTURE: ("crm_upsert", "email_send", "crm_note"),
    Action.ESCALATE: ("crm_upsert", "crm_note"),
    Action.DISQUALIFY: (),
}
SECOND_WAVE = frozenset({"crm_note", "email_send"})


@dataclass(frozen=True, slots=True)
class Carried:
    """What a decision carries out: the parts of it that the writes are made of."""

    decision_id: str
    action: Action
    reason: str
    subject: str
    reply: str
    slot: SlotFacts | None


def key(decision_id: str, tool: str) -> str:
    """The idempotency key of one write of one decision."""
    return f"{decision_id}:{tool}"


def first_wave(lead: Lead, carried: Carried) -> list[ToolCallPlan]:
    """The writes that wait for nothing: they run in parallel."""
    build = {"crm_upsert": _upsert, "calendar_book": _book}
    names = [name for name in WRITES[carried.action] if name not in SECOND_WAVE]
    if carried.action is not Action.SCHEDULE and "email_send" in WRITES[carried.action] and carried.reply:
        build["email_send"] = _email
        names.append("email_send")
    return [build[name](lead, carried) for name in names]


def second_wave(lead: Lead, carried: Carried, results: Mapping[str, Mapping[str, Any]]) -> list[ToolCallPlan]:
    """The writes that need a result of the first wave: the note its contact, a meeting's e-mail its booked time.

    `results` holds the receipts of the first wave's writes that were done, by tool.
    """
    plans = []
    if "crm_note" in WRITES[carried.action] and "crm_upsert" in results:
        plans.append(_note(carried, str(results["crm_upsert"]["id"])))
    if carried.action is Action.SCHEDULE and "calendar_book" in results and carried.reply:
        plans.append(_email(lead, carried, booked=results["calendar_book"]))
    return plans


def _upsert(lead: Lead, carried: Carried) -> ToolCallPlan:
    properties = {"lead_source": lead.source, "lead_action": carried.action.value}
    args = {"email": lead.email, "name": lead.name, "company": lead.company, "phone": lead.phone}
    return ToolCallPlan("crm_upsert", {**args, "properties": properties}, key(carried.decision_id, "crm_upsert"))


def _note(carried: Carried, contact_id: str) -> ToolCallPlan:
    text = f"Trellis decided: {carried.action.value}. {carried.reason} (decision {carried.decision_id})"
    args = {"contact_id": contact_id, "text": text}
    return ToolCallPlan("crm_note", args, key(carried.decision_id, "crm_note"))


def _book(lead: Lead, carried: Carried) -> ToolCallPlan:
    if carried.slot is None:
        raise ValueError(f"decision {carried.decision_id} schedules a meeting without a slot")
    args = {
        "start": carried.slot.start.isoformat(),
        "end": carried.slot.end.isoformat(),
        "email": lead.email,
        "title": f"Meeting with {lead.name}" + (f" ({lead.company})" if lead.company else ""),
        # The invitation goes to the lead: nothing in it is the model's own text.
        "description": f"Booked by Trellis (decision {carried.decision_id})",
    }
    return ToolCallPlan("calendar_book", args, key(carried.decision_id, "calendar_book"))


def _email(lead: Lead, carried: Carried, booked: Mapping[str, Any] | None = None) -> ToolCallPlan:
    subject, body = carried.subject or "Your message to us", carried.reply
    if booked is not None:
        time = spoken(datetime.fromisoformat(str(booked["start"])))
        body = body if SLOT_PLACEHOLDER in body else f"{body}\n\n{SLOT_PLACEHOLDER}"
        subject, body = subject.replace(SLOT_PLACEHOLDER, time), body.replace(SLOT_PLACEHOLDER, time)
    args = {"to": lead.email, "subject": subject, "body": body}
    return ToolCallPlan("email_send", args, key(carried.decision_id, "email_send"))


SLOT_PLACEHOLDER = "{slot}"


def spoken(start: datetime) -> str:
    """A meeting's start as a person reads it, with its offset from UTC."""
    offset = start.strftime("%z")
    return f"{start:%Y-%m-%d %H:%M} (UTC{offset[:3]}:{offset[3:5]})" if offset else f"{start:%Y-%m-%d %H:%M} UTC"


def pick_slot(slots: Sequence[SlotFacts], wished: datetime | None) -> SlotFacts | None:
    """The free slot nearest to the wished time, else the earliest."""
    if not slots:
        return None
    if wished is None:
        return min(slots, key=lambda slot: slot.start)
    return min(slots, key=lambda slot: abs(slot.start - wished))
