"""Times in addresses: what cannot be reckoned with is refused before anybody reckons."""

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from app.http.deps import Moment

READ = TypeAdapter(Moment).validate_python


@pytest.mark.parametrize(
    "text",
    ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59Z"],
)
def test_a_time_near_the_ends_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="between 1970 and 9998"):
        READ(text)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        READ("2026-01-01T00:00:00")


def test_a_time_is_put_into_utc() -> None:
    read = READ("2026-01-01T01:00:00+02:00")
    assert read == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert read.tzinfo is UTC
