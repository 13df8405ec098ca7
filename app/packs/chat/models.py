"""Tables of the chat agent."""

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow


class Bot(TenantRow, Base):
    """How a bot answers: `settings` is a `schemas.BotSettings`; `revision` counts its changes, part of cache keys."""

    __tablename__ = "bots"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    name: Mapped[str] = mapped_column(String(64))
    settings: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(Integer)
    updated_at: Mapped[datetime]


class AnswerFeedback(TenantRow, Base):
    """What one user said of one answer; saying it again replaces it. `subject` is the user as decisions name them."""

    __tablename__ = "answer_feedback"
    __table_args__ = (
        UniqueConstraint("tenant_id", "decision_id", "subject"),
        Index("ix_answer_feedback_subject", "tenant_id", "subject"),
    )

    decision_id: Mapped[str] = mapped_column(String(64))
    bot: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    helpful: Mapped[bool] = mapped_column(Boolean)
    comment: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime]
