"""Bodies with many things in them: a JSON array, JSON Lines, or CSV with a header."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput, TrellisError, UnsupportedMedia
from app.http.imported import text_of
from app.http.strict import strict_json
from app.packs.treatments.schemas import MAX_CUSTOMERS, MAX_EVENTS, MAX_OUTCOMES, CustomerIn, OutcomeIn

JSON: Final = "application/json"
JSON_LINES: Final = ("application/x-ndjson", "application/jsonl")
CSV: Final = "text/csv"
OWN: Final = ("external_id", "email", "segment", "fair_group", "worth_usd")
EVENT: Final = ("event_key", "event_at", "event_kind", "event_channel", "event_amount_usd", "event_text")
_NUMBER: Final = re.compile(r"-?\d{1,15}(\.\d{1,9})?")
_TIME: Final = " ('at' is when it happened, with its zone: 2026-03-01T12:00:00Z)"

Placed = tuple[str, Mapping[str, Any]]
"""Where in the body something stands (`Line 3`), and its fields."""
Given = TypeVar("Given", bound=BaseModel)


def read_customers(content_type: str, body: bytes) -> list[CustomerIn]:
    """The customers of a body; takes seconds for the largest.

    In CSV a line is an event of a customer (columns `event_...`) or, without `event_at`, the customer alone; columns
    of other names are attributes. Raises Malformed, InvalidInput naming the first line that is wrong, and
    UnsupportedMedia.
    """
    placed = _placed(content_type, body, MAX_EVENTS, ("external_id", "worth_usd"))
    if _kind(content_type) == CSV:
        placed = iter(_customers_of_csv(placed))
    return _validated(CustomerIn, placed, MAX_CUSTOMERS)


def read_outcomes(content_type: str, body: bytes) -> list[OutcomeIn]:
    """As `read_customers`; in CSV the columns are the fields, an empty one is left out."""
    placed = _placed(content_type, body, MAX_OUTCOMES, ("key", "customer", "success", "at"))
    if _kind(content_type) == CSV:
        placed = ((place, {name: value for name, value in row.items() if value != ""}) for place, row in placed)
    return _validated(OutcomeIn, placed, MAX_OUTCOMES)


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _placed(content_type: str, body: bytes, most_lines: int, needed: Sequence[str]) -> Iterator[Placed]:
    kind = _kind(content_type)
    if kind == JSON:
        return _items(orjson.loads(body or b"null"))
    if kind not in (*JSON_LINES, CSV):
        raise UnsupportedMedia("Send application/json (an array), application/x-ndjson or text/csv, in Content-Type.")
    text = text_of(body)
    return _csv_rows(text, most_lines, needed) if kind == CSV else _json_lines(text)


def _items(document: Any) -> Iterator[Placed]:
    if not isinstance(document, list):
        raise InvalidInput("The body is not a JSON array: send `[{...}, ...]`.")
    for number, item in enumerate(document, 1):
        if not isinstance(item, dict):
            raise InvalidInput(f"Item {number} is not a JSON object.")
        yield f"Item {number}", item


def _json_lines(text: str) -> Iterator[Placed]:
    # Only a line feed ends a line: splitlines() would also cut a string at U+2028.
    for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
        if not line.strip():
            continue
        try:
            value = strict_json(line.encode())
        except TrellisError as error:
            raise type(error)(f"Line {number}: {error.detail}") from None
        if not isinstance(value, dict):
            raise InvalidInput(f"Line {number} is not a JSON object.")
        yield f"Line {number}", value


def _csv_rows(text: str, most: int, needed: Sequence[str]) -> Iterator[Placed]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name or "" for name in reader.fieldnames or ()]
        if "" in header or len(set(header)) < len(header) or not header:
            raise InvalidInput("The header line of the CSV has to name every column, each differently.")
        for name in needed:
            if name not in header:
                raise InvalidInput(f"The file has no column '{name}': it has {', '.join(header)[:200]}.")
        for count, row in enumerate(reader):
            line = reader.line_num
            if None in row or None in row.values():
                raise InvalidInput(f"Line {line} has more or fewer values than the header has columns.")
            if count >= most:
                raise InvalidInput(f"The file has more than {most:,} lines: split it.")
            if any("\0" in value for value in row.values()):
                raise InvalidInput(f"Line {line} holds a NUL character: leave it out.")
            yield f"Line {line}", row
    except csv.Error as error:
        raise InvalidInput(f"Line {reader.reader.line_num} is not CSV ({error}).") from None


def _customers_of_csv(rows: Iterator[Placed]) -> list[Placed]:
    """Lines of one customer put together, at the place of the first. What a later line leaves empty stays."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, row in rows:
        customer = _customer_fields(row)
        number = customer.get("external_id", "")
        _, known = found.setdefault(number, (place, {**customer, "events": []}))
        for name, value in customer.items():
            if name != "attributes" and known.setdefault(name, value) != value:
                raise InvalidInput(f"{place}: '{name}' of the customer {number[:80]} is another than lines before.")
        known["attributes"] |= customer["attributes"]
        event = {name.removeprefix("event_"): row[name] for name in EVENT if row.get(name)}
        if event:
            known["events"].append(event)
    return list(found.values())


def _customer_fields(row: Mapping[str, str]) -> dict[str, Any]:
    attributes = {name: _typed(value) for name, value in row.items() if name not in (*OWN, *EVENT) and value != ""}
    return {name: row[name] for name in OWN if row.get(name)} | {"attributes": attributes}


def _typed(value: str) -> str | int | float | bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not _NUMBER.fullmatch(value):
        return value
    return float(value) if "." in value else int(value)


def _validated(kind: type[Given], placed: Iterator[Placed], most: int) -> list[Given]:
    given: list[Given] = []
    for place, fields in placed:
        if len(given) >= most:
            raise InvalidInput(f"The body holds more than {most:,} of them: split it.")
        try:
            given.append(kind.model_validate(fields))
        except ValidationError as error:
            raise InvalidInput(f"{place}: {sentence_of(error)}.") from None
    if not given:
        raise InvalidInput("The body is empty: send at least one.")
    return given


def sentence_of(error: ValidationError) -> str:
    """The first thing that is wrong, and where."""
    problems: Sequence[Any] = error.errors(include_url=False, include_input=False, include_context=False)
    where = ".".join(map(str, problems[0]["loc"]))
    said = problems[0]["msg"].removeprefix("Value error, ") + (_TIME if problems[0]["loc"][-1:] == ("at",) else "")
    return f"'{where[:80]}': {said}" if where else str(said)
