"""Tables of the embedded CRM, calendar and outbox."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow

_KEY = String(200)


class CrmContact(TenantRow, Base):
    __tablename__ = "crm_contacts"
    __table_args__ = (UniqueConstraint("tenant_id", "email"),)

    email: Mapped[str] = mapped_column(String(320))
    name: Mapped[str] = mapped_column(Text)
    company: Mapped[str] = mapped_column(Text)
    phone: Mapped[str] = mapped_column(Text)
    properties: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime]


class CrmWrite(TenantRow, Base):
    """One row for each key that wrote a contact: a replayed key does not undo a later write."""

    __tablename__ = "crm_writes"
    __table_args__ = (UniqueConstraint("tenant_id", "key"),)

    key: Mapped[str] = mapped_column(_KEY)
    contact_id: Mapped[str] = mapped_column(ForeignKey("crm_contacts.id"), index=True)


class CrmNote(TenantRow, Base):
    __tablename__ = "crm_notes"
    __table_args__ = (UniqueConstraint("tenant_id", "key"),)

    key: Mapped[str] = mapped_column(_KEY)
    contact_id: Mapped[str] = mapped_column(ForeignKey("crm_contacts.id"), index=True)
    text: Mapped[str] = mapped_column(Text)


class ContextRecord(TenantRow, Base):
    """One thing that the embedded default knows of a company or a repository, in place of a vendor.

    `place` is the company's id or the repository in lower case; `document` holds the fields of the value that `kind`
    names (`app.integrations.base`), times as ISO texts.
    """

    __tablename__ = "context_records"
    __table_args__ = (UniqueConstraint("tenant_id", "place", "kind", "key"),)

    place: Mapped[str] = mapped_column(_KEY)
    kind: Mapped[str] = mapped_column(String(20))
    key: Mapped[str] = mapped_column(_KEY)
    at: Mapped[datetime]
    document: Mapped[dict[str, Any]]


class BookingRow(TenantRow, Base):
    __tablename__ = "bookings"
    __table_args__ = (UniqueConstraint("tenant_id", "key"), Index(None, "tenant_id", "starts_at"))

    key: Mapped[str] = mapped_column(_KEY)
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    attendee_email: Mapped[str] = mapped_column(String(320), index=True)
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    cancelled_at: Mapped[datetime | None]


class BookingCell(TenantRow, Base):
    """A quarter of an hour that a booking holds: the unique constraint is what prevents a double booking."""

    __tablename__ = "booking_cells"
    __table_args__ = (UniqueConstraint("tenant_id", "starts_at"),)

    starts_at: Mapped[datetime]
    booking_id: Mapped[str] = mapped_column(ForeignKey("bookings.id"), index=True)


class OutboxMail(TenantRow, Base):
    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("tenant_id", "key"),)

    key: Mapped[str] = mapped_column(_KEY)
    recipient: Mapped[str] = mapped_column(String(320), index=True)
    subject: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    reply_to: Mapped[str | None] = mapped_column(String(320))
    headers: Mapped[dict[str, Any]]
