"""What the lead agent's rows hold of a person."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, CursorResult, delete, func, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.packs.leads.models import Lead, LeadEvent, LeadFeedback, LeadMessage, LeadOutcome, LeadStatus
from app.packs.leads.repository import (
    EventRepository,
    FeedbackRepository,
    LeadRepository,
    MessageRepository,
    OutcomeRepository,
)

_BLANK: Final[Mapping[str, Any]] = {
    "external_id": None,
    "name": "",
    "email": "",
    "company": None,
    "phone": None,
    "language": None,
    "country": None,
    "attributes": {},
    "score": None,
    "follow_up_at": None,
    "status": LeadStatus.ERASED,
}


class LeadsOfPerson:
    """`PersonStore` of leads. Messages and timeline go; the lead stays as a row without a word, for figures alone:
    when it came, by which way, when it was answered, what became of it."""

    name = "leads"

    async def aliases(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[Alias]:
        leads = await self._leads(session, tenant_id, known)
        records = {Alias(Kind.RECORD, lead.id) for lead in leads}
        return records | {Alias(Kind.EMAIL, lead.email.lower()) for lead in leads}

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        leads = await self._leads(session, tenant_id, known)
        ids = [lead.id for lead in leads]
        rows = [plain(lead) for lead in leads]
        for batch in batches(ids):
            messages = await MessageRepository(session, tenant_id).all(LeadMessage.lead_id.in_(batch))
            events = await EventRepository(session, tenant_id).all(LeadEvent.lead_id.in_(batch))
            outcomes = await OutcomeRepository(session, tenant_id).all(LeadOutcome.lead_id.in_(batch))
            feedback = await FeedbackRepository(session, tenant_id).all(LeadFeedback.lead_id.in_(batch))
            rows += [plain(row) for found in (messages, events, outcomes, feedback) for row in found]
        return rows

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        """Counts leads, messages and lines of timelines."""
        ids = [lead.id for lead in await self._leads(session, tenant_id, known)]
        return sum([await self._erase(session, tenant_id, batch) for batch in batches(ids)])

    async def _erase(self, session: AsyncSession, tenant_id: str, ids: Sequence[str]) -> int:
        counted = (
            delete(LeadMessage).where(LeadMessage.tenant_id == tenant_id, LeadMessage.lead_id.in_(ids)),
            delete(LeadEvent).where(LeadEvent.tenant_id == tenant_id, LeadEvent.lead_id.in_(ids)),
            update(Lead).where(Lead.tenant_id == tenant_id, Lead.id.in_(ids)).values(**_BLANK),
        )
        blanked = (
            update(LeadOutcome).where(LeadOutcome.tenant_id == tenant_id, LeadOutcome.lead_id.in_(ids)),
            update(LeadFeedback).where(LeadFeedback.tenant_id == tenant_id, LeadFeedback.lead_id.in_(ids)),
        )
        rows = 0
        for statement in counted:
            done = await session.execute(statement)
            assert isinstance(done, CursorResult)
            rows += done.rowcount
        await session.execute(blanked[0].values(note=None))
        await session.execute(blanked[1].values(comment=None))
        return rows

    async def _leads(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[Lead]:
        found: dict[str, Lead] = {}
        named: list[ColumnElement[bool]] = [
            *(func.lower(Lead.email).in_(batch) for batch in batches(known.of(Kind.EMAIL))),
            *(Lead.id.in_(batch) for batch in batches(known.of(Kind.RECORD))),
        ]
        for where in named:
            found |= {lead.id: lead for lead in await LeadRepository(session, tenant_id).all(where)}
        return list(found.values())
