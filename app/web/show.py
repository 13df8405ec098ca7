"""How values read on a page: the filters and helpers that every template has."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from markupsafe import Markup

NONE = "–"
# What is stored, as a person says it; anything else is shown with its underscores as spaces.
WORDS: Mapping[str, str] = {
    "waiting_approval": "waiting for approval",
    "decided": "decided, not yet carried out",
    "done": "done",
    "acting": "being carried out",
    "crm_upsert": "Contact in the CRM",
    "crm_note": "Note on the contact",
    "calendar_book": "Meeting in the calendar",
    "email_send": "E-mail",
    "knowledge_search": "Search of the knowledge base",
    "calendar_free_slots": "Free meeting times",
}


def words(name: str) -> str:
    """A stored name as words."""
    return WORDS.get(name, str(name).replace("_", " "))


def when(moment: datetime | str | None) -> str | Markup:
    """A time in UTC; ISO text (as in stored JSON) is read first."""
    if moment is None:
        return NONE
    at = (datetime.fromisoformat(moment) if isinstance(moment, str) else moment).astimezone(UTC)
    text = f"{at.day} {at:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(timespec="seconds"), text)


def percent(share: float | None) -> str:
    """A share of 1; one decimal below 10 %, where whole percents say too little."""
    if share is None:
        return NONE
    digits = 1 if 0 < share < 0.1 else 0
    return f"{share:.{digits}%}"


def usd(amount: float | None) -> str:
    """US dollars; small amounts keep the digits that matter."""
    if amount is None:
        return NONE
    if 0 < amount < 0.01:
        return f"${amount:.6f}".rstrip("0")
    return f"${amount:,.2f}"


def duration(seconds: float | None) -> str:
    """Seconds in the unit that reads best."""
    if seconds is None:
        return NONE
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def plural(count: int, noun: str, many: str = "") -> str:
    """The count with its noun."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def compact(value: Any) -> str:
    """A JSON value on one line."""
    return orjson.dumps(value).decode()


def inline(value: Any) -> str:
    """A JSON value in a sentence: text as it is, an object as `name: value` pairs."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{words(name)}: {inline(item)}" for name, item in value.items()) or "none"
    return compact(value)


def pretty(value: Any) -> str:
    """A JSON value over several lines."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


FILTERS: Mapping[str, Any] = {
    "words": words,
    "when": when,
    "percent": percent,
    "usd": usd,
    "duration": duration,
    "plural": plural,
    "compact": compact,
    "inline": inline,
    "pretty": pretty,
}
