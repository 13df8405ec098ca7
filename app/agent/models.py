"""Tables of the run loop: budgets, tool policies, the ledger of effects, approvals."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Date, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow
from app.storage.types import Json, UtcDateTime

KEY_LENGTH = 200


class TenantUsage(TenantRow, Base):
    """What a tenant spent on models on one UTC day, and what calls under way have reserved."""

    __tablename__ = "tenant_usage"
    __table_args__ = (UniqueConstraint("tenant_id", "day"),)

    day: Mapped[date] = mapped_column(Date)
    tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    reserved_tokens: Mapped[int] = mapped_column(BigInteger)
    reserved_cost_micros: Mapped[int] = mapped_column(BigInteger)


class BudgetLease(TenantRow, Base):
    """One process's part of `TenantUsage.reserved_*`; given back at `expires_at` where the process died."""

    __tablename__ = "budget_leases"
    __table_args__ = (Index("ix_budget_leases_expiry", "tenant_id", "expires_at"),)

    day: Mapped[date] = mapped_column(Date)
    tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ToolMode(StrEnum):
    ALLOW = "allow"
    APPROVE = "approve"


class TenantTool(TenantRow, Base):
    """A tool that a tenant's agents may use: at once, or after a person approved the call. No row: not at all."""

    __tablename__ = "tenant_tools"
    __table_args__ = (UniqueConstraint("tenant_id", "tool"),)

    tool: Mapped[str] = mapped_column(String(64))
    mode: Mapped[str] = mapped_column(String(10))
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_by: Mapped[str] = mapped_column(String(200))


class EffectState(StrEnum):
    """`claimed`: about to run, running, or cut off. `failed`: surely without effect, may be tried again.

    `parked`: it may or may not have happened, a person has to look.
    """

    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    PARKED = "parked"


class EffectRow(TenantRow, Base):
    """One write to the outside, at most once for its key.

    `args` are those of the first claim; every later attempt runs with them. `claim` names the attempt that holds
    the row until `claimed_until`.
    """

    __tablename__ = "effects"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index("ix_effects_subject", "tenant_id", "subject_id"),
        Index("ix_effects_state", "state", "claimed_until"),
    )

    key: Mapped[str] = mapped_column(String(KEY_LENGTH))
    tool: Mapped[str] = mapped_column(String(64))
    subject_id: Mapped[str] = mapped_column(String(64))
    args: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(10))
    claim: Mapped[str] = mapped_column(String(64))
    claimed_until: Mapped[datetime] = mapped_column(UtcDateTime)
    receipt: Mapped[Any | None] = mapped_column(Json)
    error: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class Approval(TenantRow, Base):
    """A write that waits for a person's word, with the arguments that it will run with."""

    __tablename__ = "approvals"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index("ix_approvals_subject", "tenant_id", "subject_id"),
        Index("ix_approvals_state", "tenant_id", "state", "id"),
    )

    tool: Mapped[str] = mapped_column(String(64))
    args: Mapped[dict[str, Any]] = mapped_column(Json)
    key: Mapped[str] = mapped_column(String(KEY_LENGTH))
    subject_id: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(10))
    requested_by: Mapped[str] = mapped_column(String(200))
    decided_by: Mapped[str | None] = mapped_column(String(200))
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
