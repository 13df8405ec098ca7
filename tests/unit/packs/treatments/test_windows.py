"""The hours in which a run may work."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.packs.treatments.windows import Window
from tests.support.examples import examples

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def window(text: str) -> Window:
    found = Window.parse(text)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "hour", "holds"),
    [
        ("09:00-17:00", 9, True),
        ("09:00-17:00", 17, False),
        ("22:00-06:00", 23, True),
        ("22:00-06:00", 5, True),
        ("22:00-06:00", 6, False),
        ("22:00-06:00", 12, False),
    ],
)
def test_a_window_holds_from_its_start_up_to_its_end_also_over_midnight(text: str, hour: int, holds: bool) -> None:
    assert window(text).holds(DAY + timedelta(hours=hour)) is holds


def test_nothing_is_always_open() -> None:
    assert Window.parse("") is None


@pytest.mark.parametrize("text", ["9-17", "24:00-06:00", "22:00-06:60", "22:00-22:00", "22:00 - 06:00", "x" * 500])
def test_what_is_no_window_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match="window"):
        Window.parse(text)


minutes = st.integers(0, 24 * 60 - 1)


@settings(max_examples=examples(60))
@given(start=minutes, end=minutes, at=minutes)
def test_it_opens_at_the_next_moment_that_it_holds_from_when_it_does_not_hold(start: int, end: int, at: int) -> None:
    if start == end:
        return
    found = window(f"{start // 60:02d}:{start % 60:02d}-{end // 60:02d}:{end % 60:02d}")
    moment = DAY + timedelta(minutes=at)
    opens = found.opens(moment)
    assert moment < opens <= moment + timedelta(days=1)
    assert found.holds(opens)
    if not found.holds(moment):
        between = range(at, at + int((opens - moment).total_seconds() // 60))
        assert not any(found.holds(DAY + timedelta(minutes=minute)) for minute in between)
