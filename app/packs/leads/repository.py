"""Rows of the lead agent, one tenant's only."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Select, Table, func, select, update

from app.errors import NotFound
from app.governance.models import Decision
from app.ids import new_id
from app.packs.leads.models import (
    Direction,
    Lead,
    LeadEvent,
    LeadFeedback,
    LeadMessage,
    LeadOutcome,
    LeadStatus,
    ScoreModelRow,
)
from app.storage.repository import TenantRepository

LeadRow = cast(Table, Lead.__table__)


class LeadRepository(TenantRepository[Lead]):
    model, noun = Lead, "lead"

    def query(self, *where: ColumnElement[bool]) -> Select[Any]:
        """An erased lead is there for figures alone."""
        return super().query(Lead.status != LeadStatus.ERASED, *where)

    async def by_external_id(self, external_id: str) -> Lead | None:
        return await self.first(Lead.external_id == external_id)

    async def known(self, external_ids: Sequence[str]) -> dict[str, str]:
        """Those of `external_ids` that are stored already, with the lead's id."""
        query = select(Lead.external_id, Lead.id).where(
            Lead.tenant_id == self.tenant_id, Lead.external_id.in_(external_ids)
        )
        return {row.external_id: row.id for row in await self.session.execute(query)}

    async def of_decision(self, pack: str, decision_id: str, *, lock: bool = False) -> tuple[Decision, Lead]:
        """A decision of the pack and the lead that it is about; with `lock` nobody else changes them until the
        transaction ends. Raises NotFound."""
        both = (
            select(Decision, Lead)
            .join(Lead, Lead.id == Decision.subject_id)
            .where(
                Decision.tenant_id == self.tenant_id,
                Lead.tenant_id == self.tenant_id,
                Lead.status != LeadStatus.ERASED,
                Decision.pack == pack,
                Decision.id == decision_id,
            )
        )
        row = (await self.session.execute(both.with_for_update() if lock else both)).one_or_none()
        if row is None:
            raise NotFound(f"There is no lead decision '{decision_id[:80]}'.")
        return row[0], row[1]

    async def scored(self, lead_id: str, score: float, now: datetime) -> None:
        """Notes the score of the lead's newest decision. Raises NotFound."""
        mine = (
            LeadRow.c.tenant_id == self.tenant_id,
            LeadRow.c.id == lead_id,
            LeadRow.c.status != LeadStatus.ERASED,
        )
        change = update(LeadRow).where(*mine).values(score=score, updated_at=now)
        if cast(CursorResult[Any], await self.session.execute(change)).rowcount != 1:
            raise self.not_found(lead_id)

    async def undecided(self, pack: str, limit: int) -> Sequence[Lead]:
        """Leads with a person for want of a decision, oldest first."""
        decided = select(Decision.subject_id).where(Decision.tenant_id == self.tenant_id, Decision.pack == pack)
        return await self.all(Lead.status == LeadStatus.ESCALATED, Lead.id.not_in(decided), limit=limit)

    async def count_by_status(self) -> dict[str, int]:
        query = (
            select(Lead.status, func.count().label("leads"))
            .where(Lead.tenant_id == self.tenant_id)
            .group_by(Lead.status)
        )
        return {row.status: row.leads for row in await self.session.execute(query)}


class MessageRepository(TenantRepository[LeadMessage]):
    model, noun = LeadMessage, "message"

    def write(self, lead_id: str, direction: Direction, body: str, subject: str | None, now: datetime) -> LeadMessage:
        row = LeadMessage(
            id=new_id("msg"), lead_id=lead_id, direction=direction, body=body, subject=subject, created_at=now
        )
        return self.add(row)

    async def last(self, lead_id: str, limit: int) -> Sequence[LeadMessage]:
        """The lead's latest messages, oldest first."""
        return await self._latest(limit, LeadMessage.lead_id == lead_id)

    async def up_to(self, lead_id: str, message_id: str, limit: int) -> Sequence[LeadMessage]:
        """The message and those of the lead before it, oldest first. Raises NotFound where the lead has no such one."""
        found = await self._latest(limit, LeadMessage.lead_id == lead_id, LeadMessage.id <= message_id)
        if not found or found[-1].id != message_id:
            raise self.not_found(message_id)
        return found

    async def _latest(self, limit: int, *where: ColumnElement[bool]) -> Sequence[LeadMessage]:
        query = self.query(*where).order_by(LeadMessage.id.desc()).limit(limit)
        return list(reversed((await self.session.scalars(query)).all()))


class EventRepository(TenantRepository[LeadEvent]):
    model, noun = LeadEvent, "event"

    def write(self, lead_id: str, kind: str, summary: str, now: datetime, **data: Any) -> LeadEvent:
        row = LeadEvent(id=new_id("evt"), lead_id=lead_id, kind=kind, summary=summary, data=data, created_at=now)
        return self.add(row)

    async def of_lead(self, lead_id: str, limit: int) -> Sequence[LeadEvent]:
        """The timeline, oldest first; its newest part where it is longer than `limit`."""
        query = self.query(LeadEvent.lead_id == lead_id).order_by(LeadEvent.id.desc()).limit(limit)
        return list(reversed((await self.session.scalars(query)).all()))


class OutcomeRepository(TenantRepository[LeadOutcome]):
    model, noun = LeadOutcome, "outcome"

    async def latest(self, *where: ColumnElement[bool]) -> Sequence[LeadOutcome]:
        """The last recorded outcome of each lead."""
        newest = (
            select(func.max(LeadOutcome.id))
            .where(LeadOutcome.tenant_id == self.tenant_id)
            .group_by(LeadOutcome.lead_id)
        )
        return await self.all(LeadOutcome.id.in_(newest), *where)


class FeedbackRepository(TenantRepository[LeadFeedback]):
    model, noun = LeadFeedback, "feedback"


class ScoreModelRepository(TenantRepository[ScoreModelRow]):
    model, noun = ScoreModelRow, "score model"

    async def active(self) -> ScoreModelRow | None:
        return await self.first(ScoreModelRow.state == "active")

    async def next_version(self) -> int:
        highest = await self.session.scalar(
            select(func.max(ScoreModelRow.version)).where(ScoreModelRow.tenant_id == self.tenant_id)
        )
        return (highest or 0) + 1
