"""How values read on a page: the filters that every template has."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from markupsafe import Markup

NONE = "–"
# What is stored, as a person says it; anything else is shown with its underscores as spaces.
WORDS: Mapping[str, str] = {"waiting_approval": "waiting for approval", "decided": "decided, not yet carried out"}


@dataclass(frozen=True, slots=True)
class Wording:
    """Stored names as words: the shell's own and those of the packs."""

    known: Mapping[str, str]

    def words(self, name: str) -> str:
        return self.known.get(name) or str(name).replace("_", " ")

    def inline(self, value: Any) -> str:
        """A JSON value in a sentence: text as it is, an object as `name: value` pairs."""
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping):
            return ", ".join(f"{self.words(name)}: {self.inline(item)}" for name, item in value.items()) or "none"
        return compact(value)


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


def pretty(value: Any) -> str:
    """A JSON value over several lines."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def filters(words: Mapping[str, str]) -> dict[str, Any]:
    """Every filter by its name; `words` are those of the packs."""
    wording = Wording({**WORDS, **words})
    plain = (when, percent, usd, duration, plural, compact, pretty)
    return {"words": wording.words, "inline": wording.inline} | {show.__name__: show for show in plain}
