"""Tables of the governance room."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow
from app.storage.types import Json


class ExperimentState(StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    STOPPED = "stopped"


class PolicyState(StrEnum):
    PROPOSED = "proposed"
    ACTIVE = "active"
    RETIRED = "retired"


class DecisionState(StrEnum):
    DECIDED = "decided"
    DONE = "done"
    WAITING_APPROVAL = "waiting_approval"
    FAILED = "failed"


def _one_of(states: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{state}'" for state in states)
    return CheckConstraint(f"state IN ({listed})", name="state")


class AuditHead(Base):
    """The newest entry of a tenant's chain; its row lock puts concurrent writers in line."""

    __tablename__ = "audit_heads"

    tenant_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))


class AuditEntry(TenantRow, Base):
    """One link of a tenant's chain. `data` is canonical JSON text: the exact bytes that were hashed."""

    __tablename__ = "audit_entries"
    __table_args__ = (UniqueConstraint("tenant_id", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(120))
    action: Mapped[str] = mapped_column(String(80))
    subject: Mapped[str] = mapped_column(String(200))
    data: Mapped[str] = mapped_column(Text)
    prev_hash: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class FlagRow(Base):
    """A flag's value for one tenant, or for every tenant that has none of its own (`*`)."""

    __tablename__ = "flags"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[Any] = mapped_column(Json)
    updated_at: Mapped[datetime]
    updated_by: Mapped[str] = mapped_column(String(120))


class ExperimentRow(TenantRow, Base):
    """An experiment's definition: `arms` is a list of the fields of `experiments.Arm`."""

    __tablename__ = "experiments"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        _one_of(ExperimentState),
        Index(
            "uq_experiments_running",
            "tenant_id",
            "pack",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )

    name: Mapped[str] = mapped_column(String(80))
    pack: Mapped[str] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(20), default=ExperimentState.DRAFT)
    arms: Mapped[list[Any]]
    started_at: Mapped[datetime | None]
    stopped_at: Mapped[datetime | None]


class Policy(TenantRow, Base):
    """A version of a pack's thresholds. At most one version of a tenant's pack is active."""

    __tablename__ = "policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "pack", "version"),
        _one_of(PolicyState),
        Index(
            "uq_policies_active",
            "tenant_id",
            "pack",
            unique=True,
            sqlite_where=text("state = 'active'"),
            postgresql_where=text("state = 'active'"),
        ),
    )

    pack: Mapped[str] = mapped_column(String(40))
    version: Mapped[int]
    state: Mapped[str] = mapped_column(String(20), default=PolicyState.PROPOSED)
    thresholds: Mapped[dict[str, Any]]
    evidence: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(120))
    activated_by: Mapped[str | None] = mapped_column(String(120))
    activated_at: Mapped[datetime | None]


class Decision(TenantRow, Base):
    """What an agent decided about a subject, from what, by which versions, and what came of it.

    `evidence` items: {chunk_id, document_id, title, score, quote}.
    `tool_calls` items: {tool, effect, state, key, duration_ms, detail}.
    `trigger_key` (`decisions.trigger_key`) makes one trigger give one decision, however often it is delivered.
    """

    __tablename__ = "decisions"
    __table_args__ = (
        UniqueConstraint("trigger_key"),
        _one_of(DecisionState),
        Index("ix_decisions_newest", "tenant_id", "id"),
        Index("ix_decisions_subject", "tenant_id", "subject_id"),
        Index("ix_decisions_by_time", "tenant_id", "pack", "created_at"),
    )

    pack: Mapped[str] = mapped_column(String(40))
    subject_id: Mapped[str] = mapped_column(String(64))
    trigger_id: Mapped[str] = mapped_column(String(64))
    trigger_key: Mapped[str] = mapped_column(String(320))
    action: Mapped[str] = mapped_column(String(40))
    confidence: Mapped[float]
    reason: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), default=DecisionState.DECIDED)
    inputs: Mapped[dict[str, Any]] = mapped_column(default=dict)
    evidence: Mapped[list[Any]] = mapped_column(default=list)
    prompt_name: Mapped[str | None] = mapped_column(String(80))
    prompt_version: Mapped[int | None]
    model: Mapped[str | None] = mapped_column(String(120))
    provider: Mapped[str | None] = mapped_column(String(80))
    route: Mapped[str | None] = mapped_column(String(40))
    experiment: Mapped[str | None] = mapped_column(String(80))
    arm: Mapped[str | None] = mapped_column(String(80))
    policy_version: Mapped[int | None]
    score_model_version: Mapped[str | None] = mapped_column(String(80))
    score: Mapped[float | None]
    answer: Mapped[dict[str, Any]] = mapped_column(default=dict)
    tool_calls: Mapped[list[Any]] = mapped_column(default=list)
    tokens_in: Mapped[int] = mapped_column(default=0)
    tokens_out: Mapped[int] = mapped_column(default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    duration_ms: Mapped[float] = mapped_column(default=0.0)
    model_ms: Mapped[float] = mapped_column(default=0.0)


class PersonErasure(TenantRow, Base):
    """An erasure that is not over: `aliases` are [kind, value] pairs, and go with the row when all is erased."""

    __tablename__ = "person_erasures"

    aliases: Mapped[list[Any]]
