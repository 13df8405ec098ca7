"""Tables of agent teams: questions and how they were answered; clients, their signals and their health."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow


class QuestionState(StrEnum):
    """`partial`: answered, and says what is missing."""

    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    FAILED = "failed"


class TeamQuestion(TenantRow, Base):
    """A question that a team was asked. `limits` are those it had; `answer` what it came to (`schemas.TeamAnswer`)."""

    __tablename__ = "team_questions"
    __table_args__ = (Index("ix_team_questions_asked", "tenant_id", "asked_by", "id"),)

    team: Mapped[str] = mapped_column(String(60))
    asked_by: Mapped[str] = mapped_column(String(200))
    subject: Mapped[str] = mapped_column(String(128), default="")
    question: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10))
    limits: Mapped[dict[str, Any]]
    answer: Mapped[dict[str, Any]]
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    duration_ms: Mapped[float] = mapped_column(Float, default=0.0)
    finished_at: Mapped[datetime | None]


class TaskState(StrEnum):
    """`refused`: the member has no tool here, or its part of the budget was too small. `skipped`: never begun."""

    DONE = "done"
    FAILED = "failed"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    SKIPPED = "skipped"


class TeamTask(TenantRow, Base):
    """A sub-question that one member had: what it answered, on what evidence, or why it could not."""

    __tablename__ = "team_tasks"
    __table_args__ = (UniqueConstraint("tenant_id", "question_id", "number"),)

    question_id: Mapped[str] = mapped_column(ForeignKey("team_questions.id", ondelete="CASCADE"))
    number: Mapped[int]
    depth: Mapped[int]
    member: Mapped[str] = mapped_column(String(60))
    question: Mapped[str] = mapped_column(Text)
    after: Mapped[list[Any]]
    state: Mapped[str] = mapped_column(String(10))
    answer: Mapped[str] = mapped_column(Text, default="")
    evidence: Mapped[list[Any]]
    missing: Mapped[list[Any]]
    problem: Mapped[str] = mapped_column(Text, default="")
    tools: Mapped[list[Any]]
    model: Mapped[str] = mapped_column(String(120), default="")
    tokens: Mapped[int] = mapped_column(Integer, default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    duration_ms: Mapped[float] = mapped_column(Float, default=0.0)


class Client(TenantRow, Base):
    """A company that the tenant serves. `crm_id` and `repository` (owner/name) are where more is known of it."""

    __tablename__ = "team_clients"
    __table_args__ = (
        UniqueConstraint("tenant_id", "external_id"),
        Index("ix_team_clients_email", "tenant_id", "email"),
        Index("ix_team_clients_newest", "tenant_id", "id"),
    )

    external_id: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320), default="")
    crm_id: Mapped[str] = mapped_column(String(128), default="")
    repository: Mapped[str] = mapped_column(String(200), default="")
    attributes: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime]


class SignalKind(StrEnum):
    ACTIVITY = "activity"
    TICKET_OPENED = "ticket_opened"
    TICKET_SOLVED = "ticket_solved"
    MESSAGE = "message"


class ClientSignal(TenantRow, Base):
    """One thing that is known of a client. `key` makes the same signal again nothing. `source`: given, crm, code.

    `text` goes when the client's contact is erased; the key stays, so that a vendor does not bring the words back.

    `quantity` is how much was done (activity). `ref` joins a ticket's opening and solving. `text` is a message's words.
    """

    __tablename__ = "team_client_signals"
    __table_args__ = (
        UniqueConstraint("tenant_id", "client_id", "key"),
        Index("ix_team_client_signals_time", "tenant_id", "client_id", "at"),
    )

    client_id: Mapped[str] = mapped_column(ForeignKey("team_clients.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(128))
    source: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime]
    quantity: Mapped[float] = mapped_column(Float, default=1.0)
    ref: Mapped[str] = mapped_column(String(128), default="")
    priority: Mapped[str] = mapped_column(String(20), default="")
    text: Mapped[str] = mapped_column(Text, default="")


class HealthScore(TenantRow, Base):
    """A client's health on a moment: 0 to 100, and each factor with its share of it. `method` is the rules' version.

    `notes` say what the score could not see: a vendor that was away, signals beyond the bound.
    """

    __tablename__ = "team_health_scores"
    __table_args__ = (
        Index("ix_team_health_scores_client", "tenant_id", "client_id", "at"),
        Index("ix_team_health_scores_newest", "tenant_id", "client_id", "id"),
    )

    client_id: Mapped[str] = mapped_column(ForeignKey("team_clients.id", ondelete="CASCADE"))
    at: Mapped[datetime]
    score: Mapped[float] = mapped_column(Float)
    state: Mapped[str] = mapped_column(String(20))
    factors: Mapped[list[Any]]
    method: Mapped[str] = mapped_column(String(20))
    notes: Mapped[list[Any]]
