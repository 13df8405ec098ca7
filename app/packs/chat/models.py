"""Tables of the chat agent."""

from datetime import datetime
from typing import Any

from sqlalchemy import Integer, String, UniqueConstraint
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
