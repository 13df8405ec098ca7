from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ConfigError, InvalidInput
from app.integrations.base import Slot
from app.integrations.hours import CELL, BusinessHours, cells, free_slots, next_cell
from tests.support.integrations import DAY, MONDAY_NINE

BERLIN = BusinessHours("Europe/Berlin")
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 364 * 24 * 60 * 60).map(lambda second: YEAR + timedelta(seconds=second))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])


@pytest.mark.parametrize(
    ("day", "opens"),
    [((2026, 3, 27), 8), ((2026, 3, 30), 7), ((2026, 10, 23), 7), ((2026, 10, 26), 8)],
    ids=["winter", "summer", "summer again", "winter again"],
)
def test_the_hours_follow_the_clock_of_the_zone_over_its_changes(day: tuple[int, int, int], opens: int) -> None:
    window = BERLIN.of_day(datetime(*day, tzinfo=UTC).date())
    assert window is not None
    assert (window.start.hour, window.end.hour) == (opens, opens + 8)


def test_a_night_between_two_local_days_belongs_to_neither() -> None:
    tokyo = BusinessHours("Asia/Tokyo")
    windows = list(tokyo.windows(MONDAY_NINE, MONDAY_NINE + DAY))
    assert [window.start.hour for window in windows] == [0]
    assert windows[0].start.date() == (MONDAY_NINE + DAY).date()


@pytest.mark.parametrize("zone", ["", "Nowhere/Town", "../etc/passwd", "Europe/Berlin\0"])
def test_an_unknown_zone_is_named(zone: str) -> None:
    with pytest.raises(ConfigError, match="time zone"):
        BusinessHours(zone)


@pytest.mark.parametrize(
    "hours",
    [
        {"opens": time(17), "closes": time(9)},
        {"opens": time(9), "closes": time(9)},
        {"opens": time(9, 10)},
        {"weekdays": frozenset({7})},
    ],
)
def test_hours_that_leave_no_time_are_refused(hours: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="business hours"):
        BusinessHours(**hours)  # type: ignore[arg-type]


def test_a_slot_needs_a_time_zone_and_a_length() -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        Slot(datetime(2026, 3, 2, 9), datetime(2026, 3, 2, 10))  # noqa: DTZ001 - what a caller gets wrong
    with pytest.raises(InvalidInput, match="after"):
        Slot(MONDAY_NINE, MONDAY_NINE)


@given(MOMENTS)
def test_the_next_quarter_is_the_first_one_not_before(moment: datetime) -> None:
    quarter = next_cell(moment)
    assert quarter - CELL < moment <= quarter
    assert quarter.minute % 15 == quarter.second == quarter.microsecond == 0


@given(MOMENTS, st.integers(1, 40))
def test_the_quarters_of_a_slot_fill_it_without_a_gap(moment: datetime, count: int) -> None:
    slot = Slot(next_cell(moment), next_cell(moment) + CELL * count)
    found = cells(slot)
    assert (found[0], found[-1] + CELL, len(found)) == (slot.start, slot.end, count)


BUSY = st.lists(st.tuples(st.integers(0, 14 * 24 * 60), st.integers(1, 600)), max_size=25)


@settings(deadline=None)
@given(ZONES, MOMENTS, BUSY, st.integers(1, 12), st.integers(1, 40))
def test_whatever_is_busy_no_slot_touches_it_or_another_or_leaves_the_hours(
    zone: str, start: datetime, busy_minutes: list[tuple[int, int]], quarters: int, limit: int
) -> None:
    hours, minutes = BusinessHours(zone), quarters * 15
    starts = [(start + timedelta(minutes=at), timedelta(minutes=length)) for at, length in busy_minutes]
    busy = [Slot(begin, begin + length) for begin, length in starts]
    found = free_slots(hours, busy, start, start + 14 * DAY, minutes, limit)
    assert len(found) <= limit
    assert not any(slot.overlaps(taken) for slot in found for taken in busy)
    assert all(earlier.end <= later.start for earlier, later in pairwise(found))
    for slot in found:
        hours.check_bookable(slot, start)
        assert slot.end - slot.start == timedelta(minutes=minutes)
        assert slot.start.astimezone(ZoneInfo(zone)).weekday() < 5


@settings(deadline=None)
@given(MOMENTS, BUSY, st.integers(1, 8))
def test_a_free_quarter_is_never_overlooked(
    start: datetime, busy_minutes: list[tuple[int, int]], quarters: int
) -> None:
    """Against a search of every quarter, one by one: the earliest slot is the earliest there is."""
    end, length = start + 3 * DAY, timedelta(minutes=15 * quarters)
    busy = [
        Slot(start + timedelta(minutes=at), start + timedelta(minutes=at + minutes)) for at, minutes in busy_minutes
    ]
    candidates = (Slot(at, at + length) for at in (next_cell(start) + CELL * number for number in range(3 * 96)))
    first = next(
        (
            slot
            for slot in candidates
            if slot.end <= end and BERLIN.contains(slot) and not any(slot.overlaps(taken) for taken in busy)
        ),
        None,
    )
    assert free_slots(BERLIN, busy, start, end, 15 * quarters, 1) == ([first] if first else [])
