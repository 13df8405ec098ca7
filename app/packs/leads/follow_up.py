"""A nurtured lead whose time has come goes to a person's list: the agent never writes unasked twice."""

from sqlalchemy import select

from app.governance.audit import AuditNote
from app.pack import Kit
from app.packs.leads.models import Lead, LeadStatus
from app.packs.leads.repository import EventRepository
from app.principal import worker

BATCH = 500


class FollowUps:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def queue_due(self) -> int:
        """Marks every due lead of every tenant for a person. Returns how many; a second run finds them done."""
        queued = 0
        while True:
            batch = await self._queue_batch()
            queued += batch
            if batch < BATCH:
                return queued

    async def _queue_batch(self) -> int:
        now = self._kit.ports.clock()
        async with self._kit.ports.db.operator_transaction() as session:
            due = select(Lead).where(Lead.follow_up_at <= now).order_by(Lead.id).limit(BATCH)
            # One that is being changed at this moment is looked at the next time, as it is then.
            leads = (await session.scalars(due.with_for_update(skip_locked=True))).all()
            for lead in leads:
                lead.follow_up_at, lead.updated_at, lead.status = None, now, LeadStatus.ESCALATED
                EventRepository(session, lead.tenant_id).write(
                    lead.id, "follow_up", "The time to follow up has come: a person writes", now
                )
            # Together, since they lock the chains of several tenants: each in its turn.
            notes = [AuditNote(worker(lead.tenant_id), "lead.follow_up", lead.id, {}) for lead in leads]
            await self._kit.audit.record_notes(session, notes)
        return len(leads)
