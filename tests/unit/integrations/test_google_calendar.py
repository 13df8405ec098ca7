import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.errors import ConfigError
from app.integrations.errors import IntegrationError, SlotTaken
from app.integrations.google_calendar import GoogleCalendar, event_id
from app.integrations.hours import BusinessHours
from tests.conftest import StillClock
from tests.support.fakes.google_calendar import CALENDAR_ID, RATE_LIMIT, SUBJECT, FakeGoogle
from tests.support.integrations import DAY, MONDAY_NINE, TENANT, TENANTS, google, slot

EMAIL = "ana@rivera.example"


@pytest.fixture
async def fake(clock: StillClock) -> AsyncIterator[FakeGoogle]:
    async with FakeGoogle(clock=clock) as made:
        yield made


@pytest.fixture
def calendar(fake: FakeGoogle, session: aiohttp.ClientSession) -> GoogleCalendar:
    return google(fake, session)


async def test_a_booking_invites_the_attendee_under_an_id_made_from_the_key(
    fake: FakeGoogle, calendar: GoogleCalendar
) -> None:
    booking = await calendar.book(TENANT, slot(), EMAIL, "Demo", "Prices", key="b1")
    event = fake.events[booking.id]
    assert booking.id == event_id(TENANT, "b1")
    assert re.fullmatch(r"[a-v0-9]{52}", booking.id)
    assert (event["summary"], event["description"]) == ("Demo", "Prices")
    assert event["attendees"] == [{"email": EMAIL}]
    assert booking.url == event["htmlLink"]
    [inserted] = [seen for seen in fake.seen if seen.path.endswith("/events")]
    assert inserted.query["sendUpdates"] == "all"
    assert set(fake.tokens.values()) == {SUBJECT}


def test_two_tenants_never_share_an_event_id() -> None:
    assert event_id("ten_a", "b1") != event_id("ten_b", "b1")


async def test_an_account_that_acts_for_nobody_writes_the_attendee_down_instead(
    fake: FakeGoogle, session: aiohttp.ClientSession
) -> None:
    calendar = google(fake, session, subject=None)
    booking = await calendar.book(TENANT, slot(), EMAIL, "Demo", "Prices", key="b1")
    assert "attendees" not in fake.events[booking.id]
    assert fake.events[booking.id]["description"] == f"Prices\n\nAttendee: {EMAIL}"


async def test_a_slot_is_booked_once_although_the_answer_was_lost(fake: FakeGoogle, calendar: GoogleCalendar) -> None:
    fake.lose_next_answer("/events")
    booking = await calendar.book(TENANT, slot(), EMAIL, "Demo", "", key="b1")
    assert list(fake.events) == [booking.id]
    assert booking.slot == slot()


async def test_a_booking_of_the_past_is_replayed_and_not_refused(
    fake: FakeGoogle, calendar: GoogleCalendar, clock: StillClock
) -> None:
    booking = await calendar.book(TENANT, slot(), EMAIL, "Demo", "", key="b1")
    clock.advance(days=3)
    assert await calendar.book(TENANT, slot(), EMAIL, "Demo", "", key="b1") == booking


async def test_what_a_person_put_into_the_calendar_is_in_the_way(fake: FakeGoogle, calendar: GoogleCalendar) -> None:
    times = {"start": {"dateTime": "2026-03-02T11:00:00+01:00"}, "end": {"dateTime": "2026-03-02T11:45:00+01:00"}}
    fake.events["lunch"] = {"id": "lunch", "status": "confirmed", **times}
    assert slot() not in await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 100)
    with pytest.raises(SlotTaken):
        await calendar.book(TENANT, slot(), EMAIL, "Demo", "", key="b1")


@pytest.mark.parametrize("status", [403, 429])
async def test_a_rate_limit_is_tried_again(fake: FakeGoogle, calendar: GoogleCalendar, status: int) -> None:
    fake.refuse_next(status, RATE_LIMIT, where="/events")
    booking = await calendar.book(TENANT, slot(), EMAIL, "Demo", "", key="b1")
    assert list(fake.events) == [booking.id]
    assert fake.count("POST", "/events") == 2


async def test_a_refused_token_is_fetched_again(fake: FakeGoogle, calendar: GoogleCalendar) -> None:
    await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)
    fake.tokens.clear()
    await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)
    assert fake.count("POST", "/token") == 2


async def test_a_token_is_used_until_a_minute_before_it_expires(
    fake: FakeGoogle, calendar: GoogleCalendar, clock: StillClock
) -> None:
    for minutes in (0, 58, 1):
        clock.advance(minutes=minutes)
        await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)
    assert fake.count("POST", "/token") == 2


async def test_a_clock_that_is_wrong_is_refused_by_the_token_endpoint(
    fake: FakeGoogle, session: aiohttp.ClientSession
) -> None:
    calendar = google(fake, session)
    fake.clock = lambda: MONDAY_NINE - DAY
    with pytest.raises(IntegrationError, match="refused to log in: invalid_grant"):
        await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)


async def test_a_calendar_that_is_not_shared_is_named(fake: FakeGoogle, session: aiohttp.ClientSession) -> None:
    calendar = google(fake, session, calendar_id="nobody@lumenridge.example")
    with pytest.raises(IntegrationError, match="notFound; check TRELLIS_GOOGLE_CALENDAR_ID"):
        await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)


async def test_the_calendar_keeps_the_hours_of_its_zone(fake: FakeGoogle, session: aiohttp.ClientSession) -> None:
    calendar = google(fake, session, hours=BusinessHours("America/New_York"))
    [first] = await calendar.free_slots(TENANT, MONDAY_NINE, MONDAY_NINE + DAY, 30, 1)
    assert first.start.hour == 14


async def test_another_tenant_is_refused_before_anything_is_sent(fake: FakeGoogle, calendar: GoogleCalendar) -> None:
    for attempt in (
        calendar.free_slots("ten_other", MONDAY_NINE, MONDAY_NINE + DAY, 30, 1),
        calendar.book("ten_other", slot(), EMAIL, "Demo", "", key="b1"),
        calendar.cancel("ten_other", "b1"),
    ):
        with pytest.raises(IntegrationError, match="not connected for this tenant"):
            await attempt
    assert fake.seen == []


@pytest.mark.parametrize("file", ["{", "[]", "{}", '{"client_email": 1, "private_key": "no key"}', "null"])
def test_a_key_file_that_is_none_is_refused(session: aiohttp.ClientSession, file: str) -> None:
    with pytest.raises(ConfigError, match="TRELLIS_GOOGLE_SERVICE_ACCOUNT_FILE"):
        GoogleCalendar(session, file, CALENDAR_ID, TENANTS)


async def test_a_damaged_private_key_is_refused_without_being_shown(
    fake: FakeGoogle, session: aiohttp.ClientSession
) -> None:
    damaged = fake.key_file().replace("PRIVATE KEY-----\\n", "PRIVATE KEY-----\\n!!", 1)
    with pytest.raises(ConfigError, match="not a service account's JSON key") as caught:
        GoogleCalendar(session, damaged, CALENDAR_ID, TENANTS)
    assert "BEGIN" not in str(caught.value)


async def test_a_missing_calendar_is_named(fake: FakeGoogle, session: aiohttp.ClientSession) -> None:
    with pytest.raises(ConfigError, match="TRELLIS_GOOGLE_CALENDAR_ID"):
        GoogleCalendar(session, fake.key_file(), "", TENANTS)
