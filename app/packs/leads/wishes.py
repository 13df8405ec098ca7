"""The meeting time that a message asks for: explicit dates, weekdays and times of day."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.knowledge.language import fold

MORNING = time(9)
_AFTER, _BEFORE, _NEAR = 45, 25, 14
_LATEST_EARLY_HOUR = 6
_ISO = re.compile(r"\b(?P<y>20\d\d)-(?P<m>\d\d)-(?P<d>\d\d)(?:\b|(?=t\d))")
_NUMERIC = re.compile(r"\b(?P<d>\d{1,2})(?P<sep>[./])(?P<m>\d{1,2})(?:(?P=sep)(?P<y>20\d\d|\d\d\b)|(?<=\d)\.(?!\d))")
_UNSPACED_DATE = re.compile(r"(?:(?P<y>20\d\d)年)?(?P<m>\d{1,2})月(?P<d>\d{1,2})[日号]")
_SMALL = r"or|oder|ou|o|of|lub|for|mit|with|via|per|on|am|in|if|would|works|suits|is|cet|utc|et|eastern"
_TIME = re.compile(
    rf"""
      (?P<half>上午|午前|下午|午後|晚上)?\s*(?P<cjk>\d{{1,2}})\s*[点时時]\s*(?P<cjk_m>\d{{1,2}}|半)?
    | (?<![\d.,:])(?P<h>\d{{1,2}})[:.h]\s?(?P<m>\d{{2}})(?!\d)(?:\s?(?P<ap>am|pm|a\.m\.|p\.m\.))?
    | (?<![\d.,:])(?P<h2>\d{{1,2}})\s?(?:(?P<ap2>am|pm|a\.m\.|p\.m\.)|(?:uhr|h|uur|heures?|horas?|o.?clock)\b)
    | \b(?:at|um|a\ las|as|alle|ore|om|o|kl\.?|klockan|godz\.?|godzinie)\s(?P<h3>\d{{1,2}})
      (?=\s*(?:[,;!?)]|$|\n|\.(?!\d))|\s(?:{_SMALL})\b)
    """,
    re.VERBOSE,
)
_PM = frozenset({"下午", "午後", "晚上", "pm", "p.m."})
_AM = frozenset({"上午", "午前", "am", "a.m."})


class Wishes:
    """Reads times in the zone that the text names, else in `zone`.

    A weekday is the next such day after today, in the week after this one where the text says "next week". A day
    without a time stands for its morning, 09:00. A time without a day, and a day after "by" or "before", is no wish.
    """

    def __init__(self, calendar: Mapping[str, Any], zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._zones = {str(name): ZoneInfo(place) for name, place in calendar["zones"].items()}
        self._weekdays = _numbered(calendar["weekdays"])
        self._months = _numbered(calendar["months"])
        self._day = _any_of([*self._weekdays, *map(fold, calendar["tomorrow"])])
        self._tomorrow = frozenset(map(fold, calendar["tomorrow"]))
        self._next_week = _any_of(calendar["next_week"])
        self._until = re.compile(rf"(?:{_any_of(calendar['until']).pattern})(?:\s\w{{1,4}})?[\s,]*$")
        self._not_tomorrow = re.compile(rf"(?:{_any_of(calendar['not_tomorrow']).pattern})\s+$")
        # In capitals alone: "est" is French, "et" Danish.
        self._in_zone = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in self._zones))
        month = "|".join(sorted(map(re.escape, self._months), key=len, reverse=True))
        year = r"(?:,?\s(?:de\s)?(?P<y>20\d\d))?"
        self._day_month = re.compile(
            rf"\b(?P<d>\d{{1,2}})(?:\.|st|nd|rd|th|er|o)?\s(?:de\s|of\s)?(?P<m>{month})\b{year}"
        )
        self._month_day = re.compile(
            rf"\b(?P<m>{month})\s(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?!\s?(?:uhr|h|am|pm)\b){year}"
        )

    def find(self, text: str, now: datetime) -> datetime | None:
        """The first wish with a time, else the first day, in UTC; None where there is none after `now`."""
        folded = fold(text)
        zone = self._spoken_zone(text)
        today = now.astimezone(zone).date()
        wishes = [(day, _time_near(folded, start, end)) for day, start, end in self._days(folded, today)]
        chosen = next((wish for wish in wishes if wish[1]), wishes[0] if wishes else None)
        if chosen is None:
            return None
        moment = datetime.combine(chosen[0], chosen[1] or MORNING, zone).astimezone(UTC)
        return moment if moment > now else None

    def _spoken_zone(self, text: str) -> ZoneInfo:
        match = self._in_zone.search(text)
        return self._zones[match[0]] if match else self._zone

    def _days(self, folded: str, today: date) -> Iterator[tuple[date, int, int]]:
        """Each day with where its words start and end, in the order of the text."""
        found = [*self._dates(folded, today), *self._weekdays_in(folded, today)]
        for day, start, end in sorted(found, key=lambda entry: entry[1]):
            if not self._until.search(folded[max(0, start - 20) : start]):
                yield day, start, end

    def _dates(self, folded: str, today: date) -> Iterator[tuple[date, int, int]]:
        for pattern in (_ISO, _NUMERIC, _UNSPACED_DATE, self._day_month, self._month_day):
            for match in pattern.finditer(folded):
                month = match["m"] if match["m"].isdigit() else str(self._months[match["m"]] + 1)
                day = _date(match["y"], int(month), int(match["d"]), today)
                if day is not None:
                    yield day, match.start(), match.end()

    def _weekdays_in(self, folded: str, today: date) -> Iterator[tuple[date, int, int]]:
        for match in self._day.finditer(folded):
            start, end = match.span()
            if match[0] in self._tomorrow:
                if not self._not_tomorrow.search(folded[max(0, start - 10) : start]):
                    yield today + timedelta(days=1), start, end
                continue
            weekday = self._weekdays[match[0].replace("-", " ")]
            ahead = (weekday - today.weekday() - 1) % 7 + 1
            if self._next_week.search(folded[max(0, start - _NEAR) : end + _NEAR]):
                ahead = 7 - today.weekday() + weekday
            yield today + timedelta(days=ahead), start, end


def _numbered(names: Sequence[Sequence[str]]) -> dict[str, int]:
    return {fold(name): number for number, row in enumerate(names) for name in row}


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    """Any of the words, whole where their script parts words by spaces; the longest first."""
    ordered = sorted(map(fold, words), key=len, reverse=True)
    return re.compile("|".join(_whole(word) if word.isascii() else re.escape(word) for word in ordered))


def _whole(word: str) -> str:
    """The word by itself; one of two parts also with a hyphen."""
    return rf"\b{re.escape(word)}\b".replace(r"\ ", r"[ -]")


def _date(year: str | None, month: int, day: int, today: date) -> date | None:
    """The date, or its next occurrence where no year is given; None for one that no calendar has."""
    try:
        if year is not None:
            return date(int(year) + (2000 if len(year) == 2 else 0), month, day)
        this_year = date(today.year, month, day)
        return this_year if this_year >= today else date(today.year + 1, month, day)
    except ValueError:
        return None


def _time_near(folded: str, start: int, end: int) -> time | None:
    after = _TIME.search(folded[end : end + _AFTER])
    if after is not None and _time(after) is not None:
        return _time(after)
    before = [match for match in _TIME.finditer(folded[max(0, start - _BEFORE) : start]) if _time(match)]
    return _time(before[-1]) if before else None


def _time(match: re.Match[str]) -> time | None:
    hour = int(match["cjk"] or match["h"] or match["h2"] or match["h3"])
    minutes = match["cjk_m"] or match["m"] or "0"
    minute = 30 if minutes == "半" else int(minutes)
    half = match["half"] or match["ap"] or match["ap2"]
    if half in _PM and hour < 12:
        hour += 12
    elif half in _AM and hour == 12:
        hour = 0
    elif match["h3"] and 1 <= hour <= _LATEST_EARLY_HOUR:
        hour += 12
    return time(hour, minute) if hour < 24 and minute < 60 else None
