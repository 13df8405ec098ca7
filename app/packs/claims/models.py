"""Tables of the claims assistant: who is insured, by which policies, what was claimed. Money in hundredths."""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Date, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow


class Member(TenantRow, Base):
    """An insured person; `user_id` is the subject of the tokens that the tenant issues for them."""

    __tablename__ = "claims_members"
    __table_args__ = (
        UniqueConstraint("tenant_id", "user_id"),
        Index("ix_claims_members_email", "tenant_id", "email"),
    )

    user_id: Mapped[str] = mapped_column(String(128))
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320))


class Policy(TenantRow, Base):
    """A policy of one member; `limits` maps a benefit to what it pays a year, in hundredths of `currency`."""

    __tablename__ = "claims_policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "number"),
        Index("ix_claims_policies_user", "tenant_id", "user_id"),
    )

    user_id: Mapped[str] = mapped_column(String(128))
    number: Mapped[str] = mapped_column(String(32))
    product: Mapped[str] = mapped_column(String(120))
    currency: Mapped[str] = mapped_column(String(3))
    starts_on: Mapped[date] = mapped_column(Date)
    ends_on: Mapped[date | None] = mapped_column(Date)
    limits: Mapped[dict[str, Any]]


class ClaimState(StrEnum):
    SUBMITTED = "submitted"
    IN_REVIEW = "in_review"
    NEEDS_DOCUMENTS = "needs_documents"
    APPROVED = "approved"
    PAID = "paid"
    REJECTED = "rejected"


OPEN = (ClaimState.SUBMITTED, ClaimState.IN_REVIEW, ClaimState.NEEDS_DOCUMENTS, ClaimState.APPROVED)
"""Not settled yet: nothing was paid or refused."""


class Claim(TenantRow, Base):
    """A claim of one member under one policy; amounts in hundredths of the policy's currency."""

    __tablename__ = "claims"
    __table_args__ = (
        UniqueConstraint("tenant_id", "number"),
        Index("ix_claims_user", "tenant_id", "user_id"),
    )

    user_id: Mapped[str] = mapped_column(String(128))
    policy_id: Mapped[str] = mapped_column(ForeignKey("claims_policies.id", ondelete="CASCADE"))
    number: Mapped[str] = mapped_column(String(32))
    benefit: Mapped[str] = mapped_column(String(60))
    state: Mapped[str] = mapped_column(String(20))
    amount_claimed: Mapped[int] = mapped_column(Integer)
    amount_paid: Mapped[int] = mapped_column(Integer, default=0)
    incurred_on: Mapped[date] = mapped_column(Date)
    note: Mapped[str] = mapped_column(Text, default="")
    updated_at: Mapped[datetime]
