"""The hours in which a run may work: off-peak, in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from app.errors import InvalidInput

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to `end`, every day; it crosses midnight where `end` is earlier. `None` of it: always open."""

    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> "Window | None":
        """`HH:MM-HH:MM` in UTC; "" is None, always open. Raises InvalidInput."""
        if not text:
            return None
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidInput(f"The window '{text[:40]}' is not of the form HH:MM-HH:MM (UTC), such as 22:00-06:00.")
        hours = [int(part) for part in found.groups()]
        start, end = time(hours[0], hours[1]), time(hours[2], hours[3])
        if start == end:
            raise InvalidInput(f"The window '{text}' begins and ends at the same time: leave it out to work always.")
        return cls(start, end)

    def holds(self, moment: datetime) -> bool:
        at = moment.astimezone(UTC).time()
        if self.start < self.end:
            return self.start <= at < self.end
        return at >= self.start or at < self.end

    def opens(self, moment: datetime) -> datetime:
        """When it opens next, after `moment`."""
        moment = moment.astimezone(UTC)
        today = datetime.combine(moment.date(), self.start, tzinfo=UTC)
        return today if today > moment else today + timedelta(days=1)
