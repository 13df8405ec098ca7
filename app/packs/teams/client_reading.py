"""Clients and their signals from a body: JSON, or CSV with a signal a line."""

from typing import Any, Final

import orjson

from app.errors import UnsupportedMedia
from app.http.imported import checked, csv_lines, text_of
from app.packs.teams.client_schemas import ClientsIn

CLIENT: Final = ("name", "email", "crm_id", "repository")
SIGNAL: Final = ("kind", "at", "quantity", "ref", "priority", "text")
COLUMNS: Final = ("external_id", *CLIENT, "key", *SIGNAL)
MAX_LINES: Final = 50_000


def read_clients(content_type: str, body: bytes) -> ClientsIn:
    """The clients of a JSON array or of a CSV file; takes up to a second for the largest.

    What is not JSON was refused at the edge. Raises Malformed for a file that is not UTF-8, InvalidInput naming what is
    wrong where, UnsupportedMedia.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return checked(ClientsIn, orjson.loads(body))
    if kind == "text/csv":
        return checked(ClientsIn, _clients_of_csv(text_of(body)))
    raise UnsupportedMedia("Send clients as application/json or text/csv, named in Content-Type.")


def _clients_of_csv(text: str) -> list[dict[str, Any]]:
    """Lines of one client are put together; one without a key adds no signal."""
    clients: dict[str, dict[str, Any]] = {}
    for _, row in csv_lines(text, COLUMNS, "external_id", MAX_LINES):
        external_id = row.get("external_id", "")
        client = clients.setdefault(external_id, {"external_id": external_id, "signals": []})
        client |= {name: row[name] for name in CLIENT if name in row}
        if "key" in row:
            client["signals"].append({name: row[name] for name in ("key", *SIGNAL) if name in row})
    return list(clients.values())
