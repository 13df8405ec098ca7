"""The embedded CRM, calendar and outbox: what only they promise, and rules that must hold for any sequence of calls."""

import asyncio
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.ids import new_id
from app.integrations.base import Booking, Contact, ContactRef, Mail, Slot
from app.integrations.errors import KeyReused, SlotTaken
from app.integrations.hours import BusinessHours, cells
from app.integrations.local import (
    LocalCalendar,
    LocalCrm,
    LocalOutbox,
    list_bookings,
    list_contacts,
    list_notes,
    list_outbox,
)
from app.integrations.models import BookingCell, BookingRow, CrmContact, CrmNote, CrmWrite, OutboxMail
from app.integrations.person import erase_person, export_person
from app.storage.base import Base
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.examples import examples
from tests.support.integrations import DAY, MONDAY_NINE, TENANT, slot

OTHER = "ten_other"
MAIL = Mail("ana@rivera.example", "Your question", "Hello Ana", headers={"X-Trellis-Lead": "lead_1"})
ANA = Contact("ana@rivera.example", "Ana Cruz", "Rivera SL", "+34 600 000 001", {"score": "0.8"})


async def rows(session: AsyncSession, table: type[Base]) -> int:
    return await session.scalar(select(func.count()).select_from(table)) or 0


async def test_one_tenant_sees_and_touches_nothing_of_another(db: Database, clock: StillClock) -> None:
    crm, calendar = LocalCrm(db, clock), LocalCalendar(db, clock)
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    booking = await calendar.book(TENANT, slot(), ANA.email, "Demo", "", key="b1")
    await LocalOutbox(db, clock).send(TENANT, MAIL, key="m1")
    assert await crm.find_contact(OTHER, ANA.email) is None
    assert [record async for record in crm.contacts(OTHER)] == []
    with pytest.raises(NotFound):
        await crm.add_note(OTHER, ref, "Hello", key="n1")
    with pytest.raises(NotFound):
        await calendar.cancel(OTHER, booking.id)
    assert slot() in await calendar.free_slots(OTHER, MONDAY_NINE, MONDAY_NINE + DAY, 30, 100)
    async with db.operator_reading() as session:
        assert not await list_outbox(session, OTHER)
        assert not await list_contacts(session, OTHER)
        assert not await list_bookings(session, OTHER, MONDAY_NINE)
        with pytest.raises(NotFound):
            await list_notes(session, OTHER, ref.id)


async def test_two_tenants_may_use_one_key_and_one_slot(db: Database, clock: StillClock) -> None:
    crm, calendar, outbox = LocalCrm(db, clock), LocalCalendar(db, clock), LocalOutbox(db, clock)
    for tenant in (TENANT, OTHER):
        await crm.upsert_contact(tenant, ANA, key="k1")
        await calendar.book(tenant, slot(), ANA.email, "Demo", "", key="k1")
        await outbox.send(tenant, MAIL, key="k1")
    async with db.operator_reading() as session:
        assert [await rows(session, table) for table in (CrmContact, BookingRow, OutboxMail)] == [2, 2, 2]


async def test_a_replayed_key_does_not_undo_a_later_write(db: Database, clock: StillClock) -> None:
    crm = LocalCrm(db, clock)
    await crm.upsert_contact(TENANT, ANA, key="k1")
    await crm.upsert_contact(TENANT, Contact(ANA.email, phone="+34 600 000 002", properties={"score": "0.9"}), key="k2")
    await crm.upsert_contact(TENANT, ANA, key="k1")
    found = await crm.find_contact(TENANT, ANA.email)
    assert found is not None
    assert (found.phone, found.properties) == ("+34 600 000 002", {"score": "0.9"})


async def test_the_same_key_never_makes_two_rows_even_for_another_person(db: Database, clock: StillClock) -> None:
    crm, outbox = LocalCrm(db, clock), LocalOutbox(db, clock)
    first = await crm.upsert_contact(TENANT, ANA, key="k1")
    assert await crm.upsert_contact(TENANT, Contact("bo@x.example"), key="k1") == first
    sent = await outbox.send(TENANT, MAIL, key="m1")
    assert await outbox.send(TENANT, Mail("bo@x.example", "Hi", "Hello"), key="m1") == sent
    async with db.operator_reading() as session:
        assert await rows(session, CrmContact) == 1
        assert [mail.recipient for mail in await list_outbox(session, TENANT)] == [ANA.email]


async def test_of_many_calls_at_once_with_one_key_all_get_one_row(db: Database, clock: StillClock) -> None:
    crm, outbox = LocalCrm(db, clock), LocalOutbox(db, clock)
    refs = await asyncio.gather(*(crm.upsert_contact(TENANT, ANA, key="k1") for _ in range(8)))
    notes = await asyncio.gather(*(crm.add_note(TENANT, refs[0], "Hi", key="n1") for _ in range(8)))
    mails = await asyncio.gather(*(outbox.send(TENANT, MAIL, key="m1") for _ in range(8)))
    assert len(set(refs)) == len(set(notes)) == len({mail.id for mail in mails}) == 1
    async with db.operator_reading() as session:
        counted = [await rows(session, table) for table in (CrmContact, CrmWrite, CrmNote, OutboxMail)]
    assert counted == [1, 1, 1, 1]


async def test_the_database_itself_refuses_a_second_holder_of_a_quarter(db: Database, clock: StillClock) -> None:
    booking = await LocalCalendar(db, clock).book(TENANT, slot(), ANA.email, "Demo", "", key="b1")
    with pytest.raises(IntegrityError):
        async with db.operator_transaction() as session:
            session.add(
                BookingCell(
                    id=new_id("cell"),
                    tenant_id=TENANT,
                    created_at=clock(),
                    starts_at=slot().start,
                    booking_id=booking.id,
                )
            )


async def test_the_calendar_keeps_the_hours_of_its_zone(db: Database, clock: StillClock) -> None:
    calendar = LocalCalendar(db, clock, BusinessHours("America/New_York"))
    [first] = await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)
    assert first.start.hour == 14
    assert (await calendar.book(TENANT, first, ANA.email, "Demo", "", key="b1")).slot == first


async def test_a_booking_in_another_zone_than_utc_holds_the_same_minutes(db: Database, clock: StillClock) -> None:
    calendar, berlin = LocalCalendar(db, clock), ZoneInfo("Europe/Berlin")
    there = Slot(slot(1).start.astimezone(berlin), slot(1).end.astimezone(berlin))
    await calendar.book(TENANT, there, ANA.email, "Demo", "", key="b1")
    with pytest.raises(SlotTaken):
        await calendar.book(TENANT, slot(1), ANA.email, "Demo", "", key="b2")


async def test_the_console_lists_what_was_written(db: Database, clock: StillClock) -> None:
    crm, calendar, outbox = LocalCrm(db, clock), LocalCalendar(db, clock), LocalOutbox(db, clock)
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    await crm.add_note(TENANT, ref, "Asked for prices.", key="n1")
    later = await calendar.book(TENANT, slot(hour=15), ANA.email, "Demo", "", key="b1")
    sooner = await calendar.book(TENANT, slot(hour=11), ANA.email, "Call", "", key="b2")
    gone = await calendar.book(TENANT, slot(hour=12), ANA.email, "Call", "", key="b3")
    await calendar.cancel(TENANT, gone.id)
    await outbox.send(TENANT, MAIL, key="m1")
    async with db.operator_reading() as session:
        [mail] = await list_outbox(session, TENANT, limit=1)
        [contact] = await list_contacts(session, TENANT)
        [note] = await list_notes(session, TENANT, ref.id)
        ahead = await list_bookings(session, TENANT, MONDAY_NINE)
        after_lunch = await list_bookings(session, TENANT, MONDAY_NINE + timedelta(hours=4))
    assert (mail.subject, mail.body, mail.headers) == (MAIL.subject, MAIL.body, MAIL.headers)
    assert (contact.email, note.text) == (ANA.email, "Asked for prices.")
    assert [booking.id for booking in ahead] == [sooner.id, later.id]
    assert [booking.id for booking in after_lunch] == [later.id]


async def test_a_person_is_exported_whole_and_erased_without_freeing_what_was_done(
    db: Database, clock: StillClock
) -> None:
    crm, calendar, outbox = LocalCrm(db, clock), LocalCalendar(db, clock), LocalOutbox(db, clock)
    for tenant in (TENANT, OTHER):
        ref = await crm.upsert_contact(tenant, ANA, key="k1")
        await crm.add_note(tenant, ref, "Asked for prices.", key="n1")
        await calendar.book(tenant, slot(), ANA.email, "Demo with Ana", "", key="b1")
        await outbox.send(tenant, MAIL, key="m1")
    await crm.upsert_contact(TENANT, Contact("bo@x.example", "Bo Li"), key="k2")
    async with db.operator_transaction() as session:
        exported = await export_person(session, TENANT, "ANA@rivera.example")
        erased = await erase_person(session, TENANT, ANA.email)
    assert {table: len(found) for table, found in exported.items()} == dict.fromkeys(exported, 1)
    assert exported["crm_notes"][0]["text"] == "Asked for prices."
    assert exported["bookings"][0]["starts_at"] == slot().start.isoformat()
    assert erased == 4
    async with db.operator_reading() as session:
        left = await export_person(session, TENANT, ANA.email)
        assert not any(left.values())
        assert all((await export_person(session, OTHER, ANA.email)).values())
        assert [contact.name for contact in await list_contacts(session, TENANT)] == ["Bo Li"]
        assert "Ana" not in repr([vars(mail) for mail in await list_outbox(session, TENANT)])
    with pytest.raises(SlotTaken):
        await calendar.book(TENANT, slot(), "bo@x.example", "Demo", "", key="b2")
    await outbox.send(TENANT, MAIL, key="m1")
    async with db.operator_reading() as session:
        assert len(await list_outbox(session, TENANT)) == 1


CALLS = st.tuples(st.sampled_from(["book", "book", "cancel"]), st.integers(0, 7), st.integers(0, 10), st.integers(1, 4))


async def play(calendar: LocalCalendar, call: tuple[str, int, int, int], made: dict[str, Booking]) -> None:
    kind, key_number, quarter, length = call
    key, start = f"key{key_number}", MONDAY_NINE + timedelta(minutes=15 * quarter)
    if kind == "cancel" and key in made:
        await calendar.cancel(TENANT, made[key].id)
    elif kind == "book":
        wanted = Slot(start, start + timedelta(minutes=15 * length))
        try:
            booking = await calendar.book(TENANT, wanted, ANA.email, "Demo", "", key=key)
        except (SlotTaken, KeyReused):
            return
        assert made.setdefault(key, booking) == booking


async def check_bookings(db: Database) -> None:
    async with db.operator_reading() as session:
        every = (await session.scalars(select(BookingRow))).all()
        held = (await session.scalars(select(BookingCell))).all()
    assert len({row.key for row in every}) == len(every)
    live = [row for row in every if row.cancelled_at is None]
    quarters = [(row.id, at) for row in live for at in cells(Slot(row.starts_at, row.ends_at))]
    assert sorted(quarters) == sorted((cell.booking_id, cell.starts_at) for cell in held)
    assert len({at for _, at in quarters}) == len(quarters)


async def scenario(folder: Path, rounds: Sequence[Sequence[tuple[str, int, int, int]]]) -> None:
    db = Database(f"sqlite+aiosqlite:///{folder / 'trellis.db'}")
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    calendar, made = LocalCalendar(db, StillClock()), dict[str, Booking]()
    for calls in rounds:
        await asyncio.gather(*(play(calendar, call, made) for call in calls))
        await check_bookings(db)
    await db.close()


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.lists(CALLS, min_size=1, max_size=5), max_size=6))
def test_no_sequence_of_bookings_cancels_and_replays_books_a_minute_twice(
    rounds: list[list[tuple[str, int, int, int]]],
) -> None:
    """The calls of one round run at once; the rounds one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder), rounds))


async def test_a_note_needs_a_contact_of_the_crm(db: Database, clock: StillClock) -> None:
    with pytest.raises(NotFound, match="contact_nobody"):
        await LocalCrm(db, clock).add_note(TENANT, ContactRef("contact_nobody"), "Hello", key="n1")
