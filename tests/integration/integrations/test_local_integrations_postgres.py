"""The embedded CRM, calendar and outbox on PostgreSQL, where two processes really write at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from sqlalchemy import func, select

from app.integrations.base import Booking, Contact, Mail
from app.integrations.errors import SlotTaken
from app.integrations.local import LocalCalendar, LocalCrm, LocalOutbox
from app.integrations.models import BookingCell, BookingRow, CrmContact, CrmNote, CrmWrite, OutboxMail
from app.integrations.person import erase_person, export_person
from app.settings import load_settings
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.integrations import TENANT, slot
from tests.support.servers import Backends, serving

EMAIL = "ana@rivera.example"
CALLS = 12
TABLES = (CrmContact, CrmWrite, CrmNote, BookingRow, BookingCell, OutboxMail)


@pytest.fixture
async def replicas(server_settings: Backends) -> AsyncIterator[Sequence[Database]]:
    settings = load_settings({}, **server_settings)
    async with serving(settings) as one, serving(settings) as other:
        yield one, other


async def counted(db: Database) -> dict[str, int | None]:
    async with db.operator_reading() as session:
        return {table.__tablename__: await session.scalar(select(func.count()).select_from(table)) for table in TABLES}


async def test_of_many_who_want_one_slot_one_gets_it(replicas: Sequence[Database], clock: StillClock) -> None:
    calendars = [LocalCalendar(db, clock) for db in replicas]
    for hour in range(9, 15):
        wanted = [
            calendars[n % 2].book(TENANT, slot(hour=hour, minute=15 * (n % 3)), EMAIL, "Demo", "", key=f"{hour}-{n}")
            for n in range(CALLS)
        ]
        results = await asyncio.gather(*wanted, return_exceptions=True)
        booked = [result.slot for result in results if isinstance(result, Booking)]
        assert booked
        assert all(isinstance(result, Booking | SlotTaken) for result in results)
        assert not any(one.overlaps(other) for one in booked for other in booked if one is not other)


async def test_of_many_calls_with_one_key_all_get_one_row(replicas: Sequence[Database], clock: StillClock) -> None:
    crms, outboxes = [LocalCrm(db, clock) for db in replicas], [LocalOutbox(db, clock) for db in replicas]
    calendars = [LocalCalendar(db, clock) for db in replicas]
    for _ in range(3):
        bookings = [calendars[n % 2].book(TENANT, slot(), EMAIL, "Demo", "", key="b1") for n in range(CALLS)]
        assert len(set(await asyncio.gather(*bookings))) == 1
        refs = await asyncio.gather(
            *(crms[n % 2].upsert_contact(TENANT, Contact(EMAIL), key="k1") for n in range(CALLS))
        )
        assert len(set(refs)) == 1
        notes = await asyncio.gather(*(crms[n % 2].add_note(TENANT, refs[0], "Hi", key="n1") for n in range(CALLS)))
        assert len(set(notes)) == 1
        mail = Mail(EMAIL, "Hi", "Hello")
        assert (
            len(set(await asyncio.gather(*(outboxes[n % 2].send(TENANT, mail, key="m1") for n in range(CALLS))))) == 1
        )
    assert await counted(replicas[0]) == dict.fromkeys((table.__tablename__ for table in TABLES), 1) | {
        "booking_cells": 2
    }


async def test_what_many_learn_of_one_person_at_once_is_all_kept(
    replicas: Sequence[Database], clock: StillClock
) -> None:
    crms = [LocalCrm(db, clock) for db in replicas]
    # Half of the keys come twice: a caller can meet another writer of its address, and then one of its key.
    learned = [Contact(EMAIL, properties={f"p{n // 2}": "1"}) for n in range(CALLS)]
    refs = await asyncio.gather(
        *(crms[n % 2].upsert_contact(TENANT, contact, key=f"k{n // 2}") for n, contact in enumerate(learned))
    )
    found = await crms[0].find_contact(TENANT, EMAIL)
    assert found is not None
    assert {ref.id for ref in refs} == {found.id}
    assert found.properties == {f"p{n}": "1" for n in range(CALLS // 2)}
    assert (await counted(replicas[0]))["crm_writes"] == CALLS // 2


async def test_a_person_is_exported_and_erased(replicas: Sequence[Database], clock: StillClock) -> None:
    db = replicas[0]
    ref = await LocalCrm(db, clock).upsert_contact(TENANT, Contact(EMAIL), key="k1")
    await LocalCrm(db, clock).add_note(TENANT, ref, "Hi", key="n1")
    await LocalCalendar(db, clock).book(TENANT, slot(), EMAIL, "Demo", "", key="b1")
    await LocalOutbox(db, clock).send(TENANT, Mail(EMAIL, "Hi", "Hello"), key="m1")
    async with db.operator_transaction() as session:
        exported = await export_person(session, TENANT, EMAIL)
        assert await erase_person(session, TENANT, EMAIL) == 4
    assert all(len(found) == 1 for found in exported.values())
    async with db.operator_reading() as session:
        assert not any((await export_person(session, TENANT, EMAIL)).values())
