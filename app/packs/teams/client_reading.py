"""Clients and their signals from a body: JSON, or CSV with a signal a line."""

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

import orjson
from pydantic import ValidationError

from app.errors import InvalidInput, Malformed, UnsupportedMedia
from app.packs.teams.client_schemas import ClientsIn

CLIENT: Final = ("name", "email", "crm_id", "repository")
SIGNAL: Final = ("kind", "at", "quantity", "ref", "priority", "text")
COLUMNS: Final = ("external_id", *CLIENT, "key", *SIGNAL)
MAX_LINES: Final = 50_000
_MAX_PROBLEMS: Final = 5


def read_clients(content_type: str, body: bytes) -> ClientsIn:
    """The clients of a JSON array or of a CSV file; takes up to a second for the largest.

    What is not JSON was refused at the edge. Raises Malformed for a file that is not UTF-8, InvalidInput naming what is
    wrong where, UnsupportedMedia.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return _validated(orjson.loads(body))
    if kind == "text/csv":
        return _validated(_clients_of_csv(_text(body)))
    raise UnsupportedMedia("Send clients as application/json or text/csv, named in Content-Type.")


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start} cannot be read.") from None


def _validated(document: Any) -> ClientsIn:
    try:
        return ClientsIn.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        shown = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in problems[:_MAX_PROBLEMS]]
        rest = f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
        raise InvalidInput(f"{'; '.join(shown)}{rest}.") from None


def _clients_of_csv(text: str) -> list[dict[str, Any]]:
    """Lines of one client are put together; one without a key adds no signal."""
    clients: dict[str, dict[str, Any]] = {}
    for row in _rows(text):
        external_id = row.get("external_id", "")
        client = clients.setdefault(external_id, {"external_id": external_id, "signals": []})
        client |= {name: row[name] for name in CLIENT if name in row}
        if "key" in row:
            client["signals"].append({name: row[name] for name in ("key", *SIGNAL) if name in row})
    return list(clients.values())


def _rows(text: str) -> list[Mapping[str, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Mapping[str, str]] = []
    try:
        unknown = sorted(set(reader.fieldnames or ()) - set(COLUMNS))
        if unknown or "external_id" not in (reader.fieldnames or ()):
            what = f"has the column '{unknown[0][:80]}'" if unknown else "has no column 'external_id'"
            raise InvalidInput(f"The file {what}: its columns are {', '.join(COLUMNS)}.")
        for row in reader:
            if None in row or None in row.values():
                raise InvalidInput(f"Line {reader.line_num} has more or fewer values than the header has columns.")
            if len(rows) >= MAX_LINES:
                raise InvalidInput(f"The file has more than {MAX_LINES:,} lines: split it.")
            rows.append({name: value.strip() for name, value in row.items() if value.strip()})
    except csv.Error as error:
        raise InvalidInput(f"Line {reader.reader.line_num} is not CSV ({error}).") from None
    return rows
