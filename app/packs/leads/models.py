"""Tables of the lead agent."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow
from app.storage.types import Json, UtcDateTime


class Action(StrEnum):
    """What the agent can decide."""

    RESPOND = "respond"
    SCHEDULE = "schedule"
    NURTURE = "nurture"
    ESCALATE = "escalate"
    DISQUALIFY = "disqualify"


class LeadStatus(StrEnum):
    """`new` waits for its first decision, `waiting` for a person to approve what the decision writes.

    `erased`: the person is gone, the row stays for figures alone.
    """

    NEW = "new"
    WAITING = "waiting"
    ANSWERED = "answered"
    SCHEDULED = "scheduled"
    NURTURING = "nurturing"
    ESCALATED = "escalated"
    DISQUALIFIED = "disqualified"
    CONVERTED = "converted"
    LOST = "lost"
    ERASED = "erased"


STATUS_AFTER = {
    Action.RESPOND: LeadStatus.ANSWERED,
    Action.SCHEDULE: LeadStatus.SCHEDULED,
    Action.NURTURE: LeadStatus.NURTURING,
    Action.ESCALATE: LeadStatus.ESCALATED,
    Action.DISQUALIFY: LeadStatus.DISQUALIFIED,
}


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class OutcomeKind(StrEnum):
    CONVERTED = "converted"
    LOST = "lost"


class Lead(TenantRow, Base):
    """A person who wrote to the tenant. `score` is the probability of conversion at the last decision."""

    __tablename__ = "leads"
    __table_args__ = (
        UniqueConstraint("tenant_id", "external_id"),
        Index("ix_leads_newest", "tenant_id", "id"),
        Index("ix_leads_tenant_status", "tenant_id", "status", "id"),
        Index("ix_leads_tenant_email", "tenant_id", "email"),
        Index("ix_leads_follow_up", "follow_up_at"),
    )

    external_id: Mapped[str | None] = mapped_column(String(200))
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320))
    company: Mapped[str | None] = mapped_column(String(200))
    phone: Mapped[str | None] = mapped_column(String(50))
    language: Mapped[str | None] = mapped_column(String(20))
    country: Mapped[str | None] = mapped_column(String(100))
    source: Mapped[str] = mapped_column(String(50))
    attributes: Mapped[dict[str, Any]] = mapped_column(Json)
    status: Mapped[str] = mapped_column(String(20), default=LeadStatus.NEW)
    score: Mapped[float | None] = mapped_column(Float)
    first_response_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    follow_up_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LeadMessage(TenantRow, Base):
    __tablename__ = "lead_messages"
    __table_args__ = (Index("ix_lead_messages_lead", "tenant_id", "lead_id", "id"),)

    lead_id: Mapped[str] = mapped_column(ForeignKey("leads.id", ondelete="CASCADE"))
    direction: Mapped[str] = mapped_column(String(10))
    subject: Mapped[str | None] = mapped_column(String(300))
    body: Mapped[str] = mapped_column(Text)


class LeadEvent(TenantRow, Base):
    """One line of a lead's timeline."""

    __tablename__ = "lead_events"
    __table_args__ = (Index("ix_lead_events_lead", "tenant_id", "lead_id", "id"),)

    lead_id: Mapped[str] = mapped_column(ForeignKey("leads.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(40))
    summary: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(Json)


class LeadOutcome(TenantRow, Base):
    """What became of a lead; the last one recorded counts."""

    __tablename__ = "lead_outcomes"
    __table_args__ = (Index("ix_lead_outcomes_lead", "tenant_id", "lead_id", "id"),)

    lead_id: Mapped[str] = mapped_column(ForeignKey("leads.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(20))
    value_micros: Mapped[int | None] = mapped_column(BigInteger)
    note: Mapped[str | None] = mapped_column(Text)


class LeadFeedback(TenantRow, Base):
    """A person's judgement of one decision. Each member may be unknown."""

    __tablename__ = "lead_feedback"
    __table_args__ = (Index("ix_lead_feedback_decision", "tenant_id", "decision_id", "id"),)

    lead_id: Mapped[str] = mapped_column(ForeignKey("leads.id", ondelete="CASCADE"))
    decision_id: Mapped[str] = mapped_column(String(64))
    thumb: Mapped[str | None] = mapped_column(String(4))
    correct_action: Mapped[str | None] = mapped_column(String(20))
    csat: Mapped[int | None] = mapped_column(Integer)
    escalation_necessary: Mapped[bool | None] = mapped_column()
    comment: Mapped[str | None] = mapped_column(Text)
    given_by: Mapped[str] = mapped_column(String(100))


class ScoreModelRow(TenantRow, Base):
    """A trained score model: the artifact as JSON, with what it was measured to be."""

    __tablename__ = "lead_score_models"
    __table_args__ = (UniqueConstraint("tenant_id", "version"),)

    version: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(10))
    artifact: Mapped[dict[str, Any]] = mapped_column(Json)
    measures: Mapped[dict[str, Any]] = mapped_column(Json)
    created_by: Mapped[str] = mapped_column(String(100))
