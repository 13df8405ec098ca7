"""The embedded CRM, calendar and outbox: rows of the tenant's own, that the console shows.

Nothing leaves the machine: a mail in the outbox was written, not sent. All three are idempotent: the same
key gives back what the first call made, whatever else the second call says.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock, system_clock
from app.errors import InvalidInput
from app.ids import new_id
from app.integrations.base import (
    Booking,
    Contact,
    ContactRecord,
    ContactRef,
    Mail,
    Sent,
    Slot,
    checked_key,
    normal_email,
)
from app.integrations.errors import KeyReused, SlotTaken
from app.integrations.hours import BusinessHours, cells, check_search, free_slots
from app.integrations.models import BookingCell, BookingRow, CrmContact, CrmNote, CrmWrite, OutboxMail
from app.integrations.wire import fuller_name
from app.storage.db import Database
from app.storage.repository import TenantRepository

PAGE = 200
T = TypeVar("T")


class ContactRepository(TenantRepository[CrmContact]):
    model, noun = CrmContact, "contact"


class WriteRepository(TenantRepository[CrmWrite]):
    model, noun = CrmWrite, "contact write"


class NoteRepository(TenantRepository[CrmNote]):
    model, noun = CrmNote, "note"


class BookingRepository(TenantRepository[BookingRow]):
    model, noun = BookingRow, "booking"


class CellRepository(TenantRepository[BookingCell]):
    model, noun = BookingCell, "booked quarter"


class OutboxRepository(TenantRepository[OutboxMail]):
    model, noun = OutboxMail, "mail"


async def _again_on_conflict(work: Callable[[], Awaitable[T]]) -> T:
    """Runs `work` again where another writer got between its look and its insert: it then finds that row.

    Twice at most: a contact can meet another writer of its address, and then one of its key.
    """
    for _ in range(2):
        with suppress(IntegrityError):
            return await work()
    return await work()


def _record(row: CrmContact) -> ContactRecord:
    return ContactRecord(row.id, row.email, row.name, row.company, row.phone, row.properties, row.updated_at)


def _booking(row: BookingRow) -> Booking:
    return Booking(row.id, Slot(row.starts_at, row.ends_at))


class LocalCrm:
    name = "local"
    idempotent = True

    def __init__(self, db: Database, clock: Clock = system_clock) -> None:
        self._db = db
        self._clock = clock

    async def upsert_contact(self, tenant_id: str, contact: Contact, *, key: str) -> ContactRef:
        checked_key(key)
        return await _again_on_conflict(partial(self._upsert, tenant_id, contact, key))

    async def _upsert(self, tenant_id: str, contact: Contact, key: str) -> ContactRef:
        email = normal_email(contact.email)
        async with self._db.transaction(tenant_id) as session:
            writes, contacts = WriteRepository(session, tenant_id), ContactRepository(session, tenant_id)
            written = await writes.first(CrmWrite.key == key)
            if written is not None:
                return ContactRef(written.contact_id)
            query = contacts.query(CrmContact.email == email).with_for_update()
            row = (await session.scalars(query)).first() or contacts.add(self._empty(email))
            self._fill(row, contact)
            await session.flush()
            writes.add(CrmWrite(id=new_id("write"), created_at=self._clock(), key=key, contact_id=row.id))
            return ContactRef(row.id)

    def _empty(self, email: str) -> CrmContact:
        blank = {"name": "", "company": "", "phone": "", "properties": {}}
        now = self._clock()
        return CrmContact(id=new_id("contact"), created_at=now, updated_at=now, email=email, **blank)

    def _fill(self, row: CrmContact, contact: Contact) -> None:
        row.name = fuller_name(row.name, contact.name)
        row.company = contact.company or row.company
        row.phone = contact.phone or row.phone
        row.properties = {**row.properties, **contact.properties}
        row.updated_at = self._clock()

    async def add_note(self, tenant_id: str, ref: ContactRef, text: str, *, key: str) -> str:
        checked_key(key)
        if not text.strip():
            raise InvalidInput("A note's text must not be empty.")
        return await _again_on_conflict(partial(self._note, tenant_id, ref, text, key))

    async def _note(self, tenant_id: str, ref: ContactRef, text: str, key: str) -> str:
        async with self._db.transaction(tenant_id) as session:
            notes = NoteRepository(session, tenant_id)
            row = await notes.first(CrmNote.key == key)
            if row is None:
                contact = await ContactRepository(session, tenant_id).get(ref.id)
                row = notes.add(
                    CrmNote(id=new_id("note"), created_at=self._clock(), key=key, contact_id=contact.id, text=text)
                )
            return row.id

    async def find_contact(self, tenant_id: str, email: str) -> ContactRecord | None:
        async with self._db.reading(tenant_id) as session:
            row = await ContactRepository(session, tenant_id).first(CrmContact.email == normal_email(email))
        return _record(row) if row is not None else None

    async def contacts(self, tenant_id: str, updated_after: datetime | None = None) -> AsyncIterator[ContactRecord]:
        """In id order; no session is held while the caller works on a record."""
        where = [CrmContact.updated_at >= updated_after] if updated_after is not None else []
        last = ""
        while True:
            async with self._db.reading(tenant_id) as session:
                rows = await ContactRepository(session, tenant_id).all(*where, CrmContact.id > last, limit=PAGE)
            for row in rows:
                yield _record(row)
            if len(rows) < PAGE:
                return
            last = rows[-1].id


class LocalCalendar:
    """One calendar a tenant. A booking holds the quarters of an hour that it covers, each at most once."""

    name = "local"
    idempotent = True

    def __init__(self, db: Database, clock: Clock = system_clock, hours: BusinessHours | None = None) -> None:
        self._db = db
        self._clock = clock
        self._hours = hours or BusinessHours()

    async def free_slots(self, tenant_id: str, start: datetime, end: datetime, minutes: int, limit: int) -> list[Slot]:
        check_search(start, end, minutes, limit)
        start = max(start, self._clock())
        if start >= end:
            return []
        async with self._db.reading(tenant_id) as session:
            rows = await BookingRepository(session, tenant_id).all(
                BookingRow.cancelled_at.is_(None), BookingRow.starts_at < end, BookingRow.ends_at > start
            )
        return free_slots(self._hours, [Slot(row.starts_at, row.ends_at) for row in rows], start, end, minutes, limit)

    async def book(
        self, tenant_id: str, slot: Slot, attendee_email: str, title: str, description: str, *, key: str
    ) -> Booking:
        row = BookingRow(
            id=new_id("booking"),
            tenant_id=tenant_id,
            created_at=self._clock(),
            key=checked_key(key),
            starts_at=slot.start,
            ends_at=slot.end,
            attendee_email=normal_email(attendee_email),
            title=title,
            description=description,
        )
        return await self._find(tenant_id, key) or await self._insert(row, slot)

    async def _insert(self, row: BookingRow, slot: Slot) -> Booking:
        self._hours.check_bookable(slot, self._clock())
        try:
            async with self._db.transaction(row.tenant_id) as session:
                session.add(row)
                await session.flush()
                held = CellRepository(session, row.tenant_id)
                for at in cells(slot):
                    held.add(BookingCell(id=new_id("cell"), created_at=row.created_at, starts_at=at, booking_id=row.id))
        except IntegrityError as error:
            # Either constraint may have spoken: the key's (the same call came twice) or a quarter's.
            replayed = await self._find(row.tenant_id, row.key)
            if replayed is None:
                raise SlotTaken("The slot was taken by another booking: offer another one.") from error
            return replayed
        return _booking(row)

    async def _find(self, tenant_id: str, key: str) -> Booking | None:
        async with self._db.reading(tenant_id) as session:
            row = await BookingRepository(session, tenant_id).first(BookingRow.key == key)
        if row is not None and row.cancelled_at is not None:
            raise KeyReused("The booking of this key was cancelled: book again with a new key.")
        return _booking(row) if row is not None else None

    async def cancel(self, tenant_id: str, booking_id: str) -> None:
        async with self._db.transaction(tenant_id) as session:
            row = await BookingRepository(session, tenant_id).get(booking_id)
            row.cancelled_at = row.cancelled_at or self._clock()
            await session.execute(
                delete(BookingCell).where(BookingCell.tenant_id == tenant_id, BookingCell.booking_id == row.id)
            )


class LocalOutbox:
    name = "local"
    idempotent = True

    def __init__(self, db: Database, clock: Clock = system_clock) -> None:
        self._db = db
        self._clock = clock

    async def send(self, tenant_id: str, mail: Mail, *, key: str) -> Sent:
        checked_key(key)
        return await _again_on_conflict(partial(self._put, tenant_id, mail, key))

    async def _put(self, tenant_id: str, mail: Mail, key: str) -> Sent:
        async with self._db.transaction(tenant_id) as session:
            outbox = OutboxRepository(session, tenant_id)
            row = await outbox.first(OutboxMail.key == key)
            if row is None:
                row = outbox.add(
                    OutboxMail(
                        id=new_id("mail"),
                        created_at=self._clock(),
                        key=key,
                        recipient=normal_email(mail.to),
                        subject=mail.subject,
                        body=mail.body,
                        reply_to=mail.reply_to,
                        headers=dict(mail.headers),
                    )
                )
            return Sent(row.id)


async def list_outbox(session: AsyncSession, tenant_id: str, limit: int = 50) -> Sequence[OutboxMail]:
    """The tenant's mails, newest first; 1 to 200 of them."""
    return (await OutboxRepository(session, tenant_id).page(limit=limit)).items


async def list_contacts(session: AsyncSession, tenant_id: str, limit: int = 50) -> Sequence[CrmContact]:
    """The tenant's contacts, newest first; 1 to 200 of them."""
    return (await ContactRepository(session, tenant_id).page(limit=limit)).items


async def list_notes(session: AsyncSession, tenant_id: str, contact_id: str, limit: int = 50) -> Sequence[CrmNote]:
    """The notes on one contact, newest first. Raises NotFound for a contact that the tenant does not have."""
    contact = await ContactRepository(session, tenant_id).get(contact_id)
    return (await NoteRepository(session, tenant_id).page(CrmNote.contact_id == contact.id, limit=limit)).items


async def list_bookings(
    session: AsyncSession, tenant_id: str, since: datetime, limit: int = 50
) -> Sequence[BookingRow]:
    """The tenant's appointments that end after `since` and are not cancelled, in the order of the day."""
    ahead = BookingRepository(session, tenant_id).query(BookingRow.cancelled_at.is_(None), BookingRow.ends_at > since)
    rows = await session.scalars(ahead.order_by(BookingRow.starts_at, BookingRow.id).limit(limit))
    found: Sequence[BookingRow] = rows.all()
    return found
