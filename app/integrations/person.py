"""What the embedded CRM, calendar and outbox know of one person: to hand over, and to erase."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, inspect, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind
from app.integrations.base import is_email, normal_email
from app.integrations.local import (
    BookingRepository,
    ContactRepository,
    NoteRepository,
    OutboxRepository,
)
from app.integrations.models import BookingRow, CrmContact, CrmNote, CrmWrite, OutboxMail
from app.storage.base import Base


def _plain(row: Base) -> dict[str, Any]:
    names = [column.key for column in inspect(type(row)).columns if column.key != "tenant_id"]
    values = {name: getattr(row, name) for name in names}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


async def export_person(session: AsyncSession, tenant_id: str, email: str) -> dict[str, list[dict[str, Any]]]:
    """Every embedded row about an e-mail address, as JSON-able mappings by table name."""
    email = normal_email(email)
    contacts = await ContactRepository(session, tenant_id).all(CrmContact.email == email)
    notes = await NoteRepository(session, tenant_id).all(CrmNote.contact_id.in_([contact.id for contact in contacts]))
    bookings = await BookingRepository(session, tenant_id).all(BookingRow.attendee_email == email)
    mails = await OutboxRepository(session, tenant_id).all(OutboxMail.recipient == email)
    found: dict[str, Sequence[Base]] = {
        "crm_contacts": contacts,
        "crm_notes": notes,
        "bookings": bookings,
        "outbox": mails,
    }
    return {table: [_plain(row) for row in rows] for table, rows in found.items()}


async def erase_person(session: AsyncSession, tenant_id: str, email: str) -> int:
    """Removes the person in the caller's transaction; returns how many rows held something.

    Mails and bookings stay as empty shells: their keys still prevent a second send, their times a double booking.
    """
    email = normal_email(email)
    found = await export_person(session, tenant_id, email)
    ids = [contact["id"] for contact in found["crm_contacts"]]
    for child in (CrmNote, CrmWrite):
        await session.execute(delete(child).where(child.tenant_id == tenant_id, child.contact_id.in_(ids)))
    await session.execute(delete(CrmContact).where(CrmContact.tenant_id == tenant_id, CrmContact.id.in_(ids)))
    await session.execute(
        update(OutboxMail)
        .where(OutboxMail.tenant_id == tenant_id, OutboxMail.recipient == email)
        .values(recipient="", subject="", body="", reply_to=None, headers={})
    )
    await session.execute(
        update(BookingRow)
        .where(BookingRow.tenant_id == tenant_id, BookingRow.attendee_email == email)
        .values(attendee_email="", title="", description="")
    )
    return sum(len(rows) for rows in found.values())


class LocalIntegrationsOfPerson:
    """`PersonStore` of the embedded CRM, calendar and outbox. What a vendor holds is the vendor's to erase."""

    name = "integrations"

    async def aliases(self, _session: AsyncSession, _tenant_id: str, _known: Aliases) -> set[Alias]:
        return set()

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        found = [await export_person(session, tenant_id, email) for email in _addresses(known)]
        return [{"table": table, **row} for tables in found for table, rows in tables.items() for row in rows]

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        return sum([await erase_person(session, tenant_id, email) for email in _addresses(known)])


def _addresses(known: Aliases) -> list[str]:
    """Those that could have been written: the others stand in no row."""
    return [email for email in known.of(Kind.EMAIL) if is_email(email)]
