"""Business hours in a time zone, and the free slots that they leave: pure functions over UTC times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.errors import ConfigError, InvalidInput
from app.integrations.base import Slot

CELL = timedelta(minutes=15)
MAX_RANGE = timedelta(days=60)
MAX_SLOTS = 100


def next_cell(moment: datetime) -> datetime:
    """The first quarter of an hour at or after `moment`, in UTC."""
    moment = moment.astimezone(UTC)
    floor = moment.replace(minute=moment.minute // 15 * 15, second=0, microsecond=0)
    return floor if floor == moment else floor + CELL


def cells(slot: Slot) -> list[datetime]:
    """The starts of the quarters of an hour that the slot covers."""
    start = slot.start.astimezone(UTC)
    return [start + CELL * index for index in range((slot.end - slot.start) // CELL)]


@dataclass(frozen=True, slots=True)
class BusinessHours:
    """The same hours on each working day.

    Args:
        zone: IANA name of the time zone that `opens` and `closes` are in.
        weekdays: Monday is 0.

    Raises ConfigError for an unknown zone or hours that leave no time.
    """

    zone: str = "UTC"
    opens: time = time(9)
    closes: time = time(17)
    weekdays: frozenset[int] = frozenset(range(5))

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"The calendar's time zone '{self.zone}' is not known: use a name like Europe/Berlin."
            ) from error
        if self.opens >= self.closes or not self.weekdays <= frozenset(range(7)):
            raise ConfigError("The calendar's business hours leave no time: 'opens' must come before 'closes'.")
        if any(moment.minute % 15 or moment.second or moment.microsecond for moment in (self.opens, self.closes)):
            raise ConfigError("The calendar's business hours must begin and end on a quarter of an hour.")

    def of_day(self, day: date) -> Slot | None:
        """The opening hours of a local day, in UTC; None on a day off."""
        if day.weekday() not in self.weekdays:
            return None
        zone = ZoneInfo(self.zone)
        opens, closes = (datetime.combine(day, moment, zone).astimezone(UTC) for moment in (self.opens, self.closes))
        return Slot(opens, closes) if opens < closes else None

    def windows(self, start: datetime, end: datetime) -> Iterator[Slot]:
        """The opening hours that touch [start, end), whole and in order."""
        zone = ZoneInfo(self.zone)
        day, last = start.astimezone(zone).date(), end.astimezone(zone).date()
        while day <= last:
            window = self.of_day(day)
            if window is not None and window.start < end and start < window.end:
                yield window
            day += timedelta(days=1)

    def contains(self, slot: Slot) -> bool:
        window = self.of_day(slot.start.astimezone(ZoneInfo(self.zone)).date())
        return window is not None and window.start <= slot.start and slot.end <= window.end

    def check_bookable(self, slot: Slot, now: datetime) -> None:
        """Raises InvalidInput for a slot that no calendar of these hours would offer."""
        if slot.start < now:
            raise InvalidInput("The slot lies in the past: ask for free slots again.")
        if next_cell(slot.start) != slot.start or (slot.end - slot.start) % CELL:
            raise InvalidInput("The slot must begin and end on a quarter of an hour.")
        if not self.contains(slot):
            raise InvalidInput(
                f"The slot lies outside the business hours ({self.opens:%H:%M} to {self.closes:%H:%M}, {self.zone})."
            )


def check_search(start: datetime, end: datetime, minutes: int, limit: int) -> None:
    """Raises InvalidInput for a search that cannot be answered."""
    Slot(start, end)
    if end - start > MAX_RANGE:
        raise InvalidInput(f"Free slots are looked for in at most {MAX_RANGE.days} days at a time.")
    if minutes < 15 or minutes % 15 or minutes > 24 * 60:
        raise InvalidInput("'minutes' must be a multiple of 15, from 15 to 1440.")
    if not 1 <= limit <= MAX_SLOTS:
        raise InvalidInput(f"'limit' must be between 1 and {MAX_SLOTS}.")


def _free_in(window: Slot, busy: Sequence[Slot], length: timedelta) -> Iterator[Slot]:
    start = window.start
    while start + length <= window.end:
        candidate = Slot(start, start + length)
        blocked_until = max((taken.end for taken in busy if taken.overlaps(candidate)), default=None)
        if blocked_until is None:
            yield candidate
            start += length
        else:
            start = next_cell(blocked_until)


def free_slots(
    hours: BusinessHours, busy: Sequence[Slot], start: datetime, end: datetime, minutes: int, limit: int
) -> list[Slot]:
    """The earliest `limit` slots of `minutes` in [start, end) that lie in business hours and touch nothing in `busy`.

    Slots begin on a quarter of an hour and do not overlap each other.
    """
    found: list[Slot] = []
    first = next_cell(start)
    for window in hours.windows(start, end):
        opens, closes = max(window.start, first), min(window.end, end.astimezone(UTC))
        if opens >= closes:
            continue
        near = [taken for taken in busy if taken.overlaps(window)]
        for slot in _free_in(Slot(opens, closes), near, timedelta(minutes=minutes)):
            found.append(slot)
            if len(found) == limit:
                return found
    return found
