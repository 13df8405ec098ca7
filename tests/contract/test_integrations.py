"""What every CRM, calendar and mailer must do: the embedded ones, and each vendor's client over the vendor's shapes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import pairwise

import pytest

from app.errors import InvalidInput, NotFound, TrellisError
from app.integrations.base import Booking, Calendar, Contact, ContactRef, Crm, Mail, Mailer, Slot
from app.integrations.errors import KeyReused, SlotTaken
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.integrations import DAY, MONDAY_NINE, TENANT, calendar_over, crm_over, mailer_over, slot

ANA = Contact("ana@rivera.example", "Ana de la Cruz", "Rivera SL", "+34 600 000 001", {"score": "0.83"})


@pytest.fixture(params=["local", "hubspot", "salesforce"])
async def crm(request: pytest.FixtureRequest, db: Database, clock: StillClock) -> AsyncIterator[Crm]:
    async with crm_over(request.param, db, clock) as made:
        yield made


@pytest.fixture(params=["local", "google"])
async def calendar(request: pytest.FixtureRequest, db: Database, clock: StillClock) -> AsyncIterator[Calendar]:
    async with calendar_over(request.param, db, clock) as made:
        yield made


@pytest.fixture(params=["local", "sendgrid"])
async def mailer(request: pytest.FixtureRequest, db: Database, clock: StillClock) -> AsyncIterator[Mailer]:
    async with mailer_over(request.param, db, clock) as made:
        yield made


async def test_a_saved_contact_is_found_with_all_that_was_known(crm: Crm) -> None:
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    found = await crm.find_contact(TENANT, "ana@rivera.example")
    assert found is not None
    assert (found.id, found.email) == (ref.id, ANA.email)
    assert (found.name, found.company, found.phone) == (ANA.name, ANA.company, ANA.phone)
    assert found.properties == {"score": "0.83"}
    assert found.updated_at == MONDAY_NINE


async def test_what_is_not_known_does_not_overwrite_what_the_crm_has(crm: Crm) -> None:
    first = await crm.upsert_contact(TENANT, ANA, key="k1")
    second = await crm.upsert_contact(TENANT, Contact(ANA.email, phone="+34 600 000 002"), key="k2")
    found = await crm.find_contact(TENANT, ANA.email)
    assert found is not None
    assert first.id == second.id
    assert (found.name, found.company, found.phone) == (ANA.name, ANA.company, "+34 600 000 002")
    assert found.properties == {"score": "0.83"}


async def test_an_update_that_knows_only_the_first_name_keeps_the_whole_one(crm: Crm) -> None:
    await crm.upsert_contact(TENANT, ANA, key="k1")
    await crm.upsert_contact(TENANT, Contact(ANA.email, name="Ana", company="Cruz SL"), key="k2")
    found = await crm.find_contact(TENANT, ANA.email)
    assert found is not None
    assert (found.name, found.company) == ("Ana de la Cruz", "Cruz SL")


@pytest.mark.parametrize("name", ["", "Madonna", "Ana de la Cruz"])
@pytest.mark.parametrize("company", ["", "Rivera SL"])
async def test_a_contact_of_which_little_is_known_comes_back_as_it_was_given(crm: Crm, name: str, company: str) -> None:
    await crm.upsert_contact(TENANT, Contact("x@y.example", name, company), key="k1")
    found = await crm.find_contact(TENANT, "x@y.example")
    assert found is not None
    assert (found.name, found.company) == (name, company)


async def test_an_address_in_other_letters_is_the_same_contact(crm: Crm) -> None:
    first = await crm.upsert_contact(TENANT, ANA, key="k1")
    second = await crm.upsert_contact(TENANT, Contact(" ANA@Rivera.Example ", "Ana C", "Rivera"), key="k2")
    assert first.id == second.id
    assert len([record async for record in crm.contacts(TENANT)]) == 1


async def test_a_saved_contact_is_not_doubled_by_saving_it_again_with_the_same_key(crm: Crm) -> None:
    first = await crm.upsert_contact(TENANT, ANA, key="k1")
    second = await crm.upsert_contact(TENANT, ANA, key="k1")
    assert first == second
    assert len([record async for record in crm.contacts(TENANT)]) == 1


async def test_an_unknown_address_is_not_found(crm: Crm) -> None:
    assert await crm.find_contact(TENANT, "nobody@rivera.example") is None


@pytest.mark.parametrize("email", ["", "ana", "ana@rivera", "a b@c.de", "ana@rivera.example\r\nBcc: x@y.example"])
async def test_what_is_not_an_address_is_refused_before_anything_is_sent(crm: Crm, email: str) -> None:
    with pytest.raises(InvalidInput, match="not an e-mail address"):
        await crm.upsert_contact(TENANT, Contact(email, "Ana C", "Rivera"), key="k1")


async def test_a_note_is_written_once_for_its_key(crm: Crm) -> None:
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    first = await crm.add_note(TENANT, ref, "Asked for prices.", key="n1")
    again = await crm.add_note(TENANT, ref, "Asked for prices.", key="n1")
    other = await crm.add_note(TENANT, ref, "Asked for prices.", key="n2")
    assert first == again
    assert first != other


async def test_a_note_on_a_contact_that_is_not_there_is_not_found(crm: Crm) -> None:
    with pytest.raises(NotFound):
        await crm.add_note(TENANT, ContactRef("999000999000999"), "Hello", key="n1")


async def test_an_empty_note_is_refused(crm: Crm) -> None:
    ref = await crm.upsert_contact(TENANT, ANA, key="k1")
    with pytest.raises(InvalidInput, match="note"):
        await crm.add_note(TENANT, ref, "  ", key="n1")


@pytest.mark.parametrize("key", ["", "k" * 201])
async def test_a_key_that_cannot_be_kept_is_refused(crm: Crm, key: str) -> None:
    with pytest.raises(InvalidInput, match="key"):
        await crm.upsert_contact(TENANT, ANA, key=key)


async def test_every_contact_is_listed_over_several_pages(crm: Crm) -> None:
    emails = {f"lead{number}@rivera.example" for number in range(230)}
    for email in emails:
        await crm.upsert_contact(TENANT, Contact(email, "Ana Cruz", "Rivera"), key=email)
    listed = [record.email async for record in crm.contacts(TENANT)]
    assert len(listed) == 230
    assert set(listed) == emails


async def test_only_contacts_changed_at_or_after_a_time_are_listed(crm: Crm, clock: StillClock) -> None:
    for email in ("old@x.example", "touched@x.example"):
        await crm.upsert_contact(TENANT, Contact(email, "Ana Cruz", "X"), key=email)
    clock.advance(hours=1)
    since = clock.now
    await crm.upsert_contact(TENANT, Contact("touched@x.example", phone="+34 600 000 009"), key="k2")
    await crm.upsert_contact(TENANT, Contact("new@x.example", "Bo Li", "X"), key="k3")
    listed = [record.email async for record in crm.contacts(TENANT, since)]
    assert sorted(listed) == ["new@x.example", "touched@x.example"]


async def book(calendar: Calendar, key: str, where: Slot, email: str = "ana@rivera.example") -> Booking:
    return await calendar.book(TENANT, where, email, "Demo with Ana", "About prices", key=key)


async def test_free_slots_lie_in_business_hours_one_after_the_other(calendar: Calendar) -> None:
    free = await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + 5 * DAY, 45, 30)
    assert free[0] == slot(hour=9, minutes=45)
    assert len(free) == 30
    assert all(one.end - one.start == timedelta(minutes=45) for one in free)
    assert all(one.start.hour >= 9 and one.end <= one.start.replace(hour=17, minute=0) for one in free)
    assert all(a.end <= b.start for a, b in pairwise(free))


async def test_no_slot_is_offered_in_the_past_or_at_the_weekend(calendar: Calendar, clock: StillClock) -> None:
    clock.advance(hours=4, minutes=7)
    free = await calendar.free_slots(TENANT, MONDAY_NINE - 2 * DAY, MONDAY_NINE + 8 * DAY, 60, 100)
    assert free[0] == Slot(MONDAY_NINE.replace(hour=13, minute=15), MONDAY_NINE.replace(hour=14, minute=15))
    assert {one.start.weekday() for one in free} == {0, 1, 2, 3, 4}
    assert await calendar.free_slots(TENANT, MONDAY_NINE - 2 * DAY, MONDAY_NINE, 60, 5) == []


@pytest.mark.parametrize(
    ("days", "minutes", "limit"),
    [(0, 30, 5), (-1, 30, 5), (61, 30, 5), (1, 20, 5), (1, 0, 5), (1, 30, 0), (1, 30, 101)],
)
async def test_a_search_that_cannot_be_answered_is_refused(
    calendar: Calendar, days: int, minutes: int, limit: int
) -> None:
    with pytest.raises(InvalidInput):
        await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + days * DAY, minutes, limit)


async def test_a_booked_slot_is_not_offered_any_more(calendar: Calendar) -> None:
    booking = await book(calendar, "b1", slot(hour=9, minute=15))
    assert booking.slot == slot(hour=9, minute=15)
    free = await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 3)
    assert free == [slot(hour=9, minute=45), slot(hour=10, minute=15), slot(hour=10, minute=45)]


@pytest.mark.parametrize("minute", [0, 15, 30, 45])
async def test_a_slot_that_overlaps_a_booking_is_taken(calendar: Calendar, minute: int) -> None:
    await book(calendar, "b1", slot(hour=10, minute=15, minutes=60))
    with pytest.raises(SlotTaken):
        await book(calendar, "b2", slot(hour=10, minute=minute))


async def test_slots_that_only_touch_a_booking_can_be_booked(calendar: Calendar) -> None:
    await book(calendar, "b1", slot(hour=10))
    await book(calendar, "b2", slot(hour=9, minute=30))
    after = await book(calendar, "b3", slot(hour=10, minute=30))
    assert after.slot == slot(hour=10, minute=30)


async def test_the_same_key_gives_the_same_booking_even_for_another_slot(calendar: Calendar) -> None:
    first = await book(calendar, "b1", slot(hour=10))
    assert await book(calendar, "b1", slot(hour=10)) == first
    assert await book(calendar, "b1", slot(hour=15)) == first
    await book(calendar, "b2", slot(hour=15))


async def test_of_ten_who_want_one_slot_one_gets_it(calendar: Calendar) -> None:
    wanted = [book(calendar, f"b{number}", slot(hour=11)) for number in range(10)]
    results = await asyncio.gather(*wanted, return_exceptions=True)
    assert sum(isinstance(result, Booking) for result in results) == 1
    assert sum(isinstance(result, SlotTaken) for result in results) == 9


async def test_of_ten_calls_with_one_key_all_get_the_same_booking(calendar: Calendar) -> None:
    bookings = await asyncio.gather(*(book(calendar, "b1", slot(hour=11)) for _ in range(10)))
    assert len({booking.id for booking in bookings}) == 1


async def test_a_cancelled_booking_frees_its_slot_and_a_second_cancel_changes_nothing(calendar: Calendar) -> None:
    booking = await book(calendar, "b1", slot(hour=11))
    await calendar.cancel(TENANT, booking.id)
    await calendar.cancel(TENANT, booking.id)
    again = await book(calendar, "b2", slot(hour=11))
    assert again.id != booking.id


async def test_the_key_of_a_cancelled_booking_does_not_bring_it_back(calendar: Calendar) -> None:
    booking = await book(calendar, "b1", slot(hour=11))
    await calendar.cancel(TENANT, booking.id)
    with pytest.raises(KeyReused):
        await book(calendar, "b1", slot(hour=11))


async def test_a_booking_that_is_not_there_cannot_be_cancelled(calendar: Calendar) -> None:
    with pytest.raises(NotFound):
        await calendar.cancel(TENANT, "b000000")


@pytest.mark.parametrize(
    "where",
    [
        slot(day=-7),
        slot(hour=8),
        slot(hour=16, minute=45),
        slot(day=5),
        slot(hour=10, minute=5),
        slot(hour=10, minutes=20),
    ],
    ids=["past", "early", "late", "saturday", "crooked", "short"],
)
async def test_a_slot_that_was_never_on_offer_cannot_be_booked(calendar: Calendar, where: Slot) -> None:
    with pytest.raises(InvalidInput):
        await book(calendar, "b1", where)


MAIL = Mail("ana@rivera.example", "Your question", "Hello Ana,\nthe price is 12 EUR.", "sales@lumenridge.example")


async def test_a_mail_is_accepted_with_an_id(mailer: Mailer) -> None:
    sent = await mailer.send(TENANT, MAIL, key="m1")
    other = await mailer.send(TENANT, MAIL, key="m2")
    assert sent.id
    assert sent.id != other.id


async def test_a_mailer_that_calls_itself_idempotent_sends_once_for_a_key_and_only_then(mailer: Mailer) -> None:
    first = await mailer.send(TENANT, MAIL, key="m1")
    second = await mailer.send(TENANT, MAIL, key="m1")
    assert (first == second) is mailer.idempotent


async def test_a_mail_may_carry_headers_of_its_own(mailer: Mailer) -> None:
    mail = Mail("ana@rivera.example", "Hi", "Hello", headers={"X-Trellis-Lead": "lead_1"})
    assert (await mailer.send(TENANT, mail, key="m1")).id


@pytest.mark.parametrize(
    "change",
    [
        {"to": "ana"},
        {"to": "ana@rivera.example, eve@x.example"},
        {"subject": ""},
        {"subject": "Hi\r\nBcc: eve@x.example"},
        {"body": " \n"},
        {"reply_to": "nobody"},
        {"headers": {"X-A": "1\nBcc: eve@x.example"}},
        {"headers": {"Bcc": "eve@x.example"}},
        {"headers": {"X A": "1"}},
    ],
)
def test_a_mail_that_would_not_survive_smtp_cannot_be_written(change: dict[str, object]) -> None:
    values: dict[str, object] = {"to": "ana@rivera.example", "subject": "Hi", "body": "Hello"}
    with pytest.raises(InvalidInput):
        Mail(**(values | change))  # type: ignore[arg-type]


async def test_every_error_is_one_sentence_for_the_caller(crm: Crm, calendar: Calendar) -> None:
    errors: list[TrellisError] = []
    for wrong in (
        crm.add_note(TENANT, ContactRef("999000999000999"), "Hello", key="n1"),
        crm.upsert_contact(TENANT, Contact("ana"), key="k1"),
        calendar.cancel(TENANT, "b000000"),
        book(calendar, "b1", slot(hour=8)),
    ):
        with pytest.raises(TrellisError) as caught:
            await wrong
        errors.append(caught.value)
    assert all(error.detail.endswith((".", ".com.")) and "\n" not in error.detail for error in errors)
    assert all(400 <= error.status < 500 for error in errors)
