"""What a row's values are between two databases, and how rows are compared by a sum of digests."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from app.errors import InvalidInput
from app.promotion.side import Key, Row
from app.promotion.tables import Kind, MovedTable

Convert = Callable[[Any], Any]
DIGEST_BYTES: Final = 16
MODULUS: Final = 1 << 8 * DIGEST_BYTES
_EXACT: Final = 1 << 53
# JSONB writes out what a float says with an exponent, and knows no minus zero: texts with such numbers are looked at.
_UNUSUAL: Final = re.compile(r"\d{16}|\d[eE]|-0")


def key_of(table: MovedTable, row: Row) -> Key:
    return tuple(row[place] for place in table.places)


def converters(kinds: Sequence[Kind], by_kind: dict[Kind, Convert]) -> tuple[tuple[int, Convert], ...]:
    """Which places of a row need a conversion, and which: most need none."""
    return tuple((place, by_kind[kind]) for place, kind in enumerate(kinds) if kind in by_kind)


def converted(row: Sequence[Any], conversions: Sequence[tuple[int, Convert]]) -> Row:
    """None stays None."""
    values = list(row)
    for place, convert in conversions:
        if values[place] is not None:
            values[place] = convert(values[place])
    return tuple(values)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _json_text(value: Any) -> str:
    # A column of SQLite declared as JSON makes a number of a text that reads as one.
    return value if isinstance(value, str) else orjson.dumps(value).decode()


FROM_SQLITE: Final[dict[Kind, Convert]] = {
    Kind.BOOLEAN: bool,
    Kind.MOMENT: _moment,
    Kind.DATE: date.fromisoformat,
    Kind.JSON: _json_text,
}
TO_SQLITE: Final[dict[Kind, Convert]] = {
    # As the app's own column types write them.
    Kind.MOMENT: lambda value: value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds"),
    Kind.DATE: date.isoformat,
}


def _canonical_json(text: str) -> list[Any]:
    value = orjson.loads(text)
    # In a list: JSON's null is a value, the database's is none.
    return [_usual(value) if _UNUSUAL.search(text) else value]


def _usual(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _usual(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_usual(inner) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int):
        return float(value) if abs(value) >= _EXACT else value
    return abs(value) if value == 0 else value


def _canonical_float(value: float) -> float | list[str]:
    # The encoder writes null for these.
    return float(value) if math.isfinite(value) else [repr(float(value))]


_CANONICAL: Final[dict[Kind, Convert]] = {
    Kind.JSON: _canonical_json,
    Kind.FLOAT: _canonical_float,
    Kind.BYTES: lambda value: blake2b(value, digest_size=DIGEST_BYTES).hexdigest(),
}


def digest(table: MovedTable, row: Row) -> int:
    """128 bits of a row's values, the same whichever database they were read from.

    Numbers in JSON count as equal where they are the same double. Raises InvalidInput for JSON that cannot be read.
    """
    try:
        values = converted(row, converters(table.kinds, _CANONICAL))
        content = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"The row {row_name(table, row)} cannot be moved: it holds a value that PostgreSQL does not keep ({error})."
        ) from None
    return int.from_bytes(blake2b(content, digest_size=DIGEST_BYTES).digest(), "big")


def row_name(table: MovedTable, row: Row) -> str:
    return f"{table.name}/{'/'.join(str(part) for part in key_of(table, row))}"
