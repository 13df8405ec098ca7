"""Shapes that several vendors want their values in."""

from datetime import UTC, datetime


def first_and_last(name: str) -> tuple[str, str]:
    """The first word, and the rest: ("Ana", "de la Cruz"). A single word is a first name."""
    first, _, last = " ".join(name.split()).partition(" ")
    return first, last


def full_name(first: str, last: str) -> str:
    return f"{first} {last}".strip()


def fuller_name(known: str, given: str) -> str:
    """The given name, unless it is none or no more than the first word of the known one."""
    given = " ".join(given.split())
    return known if not given or given == first_and_last(known)[0] else given


def utc_text(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-03-02T09:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
