"""The console's one table."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base


class UsedTicket(Base):
    """A sign-in ticket that was used; kept until it would have expired."""

    __tablename__ = "console_used_tickets"

    nonce: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)
