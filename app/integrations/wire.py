"""Shapes that several vendors want their values in, or give them in."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from app.integrations.errors import IntegrationError

MOST_TITLE: Final = 300
MOST_TEXT: Final = 2000
"""Characters that are kept of what others wrote."""

T = TypeVar("T")


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


def moment(text: str) -> datetime:
    """An ISO 8601 time in UTC; one without a zone is taken as UTC. Raises ValueError."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def moment_or_none(text: str | None) -> datetime | None:
    return moment(text) if text else None


def clipped(text: str | None, most: int = MOST_TEXT) -> str:
    """At most `most` characters; "" of None."""
    text = (text or "").replace("\0", "").strip()
    return text if len(text) <= most else text[: most - 1] + "…"


def plain_text(html: str | None, most: int = MOST_TEXT) -> str:
    """The words of a piece of HTML, without marks, scripts and styles, clipped."""
    # 2 MB that most processes never need.
    from selectolax.lexbor import LexborHTMLParser

    page = LexborHTMLParser((html or "")[: most * 20])
    page.strip_tags(["script", "style"])
    words = page.body.text(separator=" ") if page.body is not None else ""
    return clipped(" ".join(words.split()), most)


def read_rows(vendor: str, what: str, rows: Any, read: Callable[[Any], T | None]) -> list[T]:
    """`read` of every row, without those that it gives None for.

    Raises IntegrationError where `rows` is not a list, or one of them is not in the vendor's shape.
    """
    try:
        return [found for found in map(read, _listed(rows)) if found is not None]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = (
            f"{vendor} gave {what} in a shape that cannot be read ({type(error).__name__}): tell whoever runs Trellis."
        )
        raise IntegrationError(detail, retryable=False) from error


def _listed(rows: Any) -> Iterable[Any]:
    if not isinstance(rows, list):
        raise TypeError("not a list")
    return rows
