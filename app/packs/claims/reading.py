"""Members, policies and claims from a file: JSON, or CSV with a claim a line."""

from collections.abc import Mapping
from typing import Any

import orjson

from app.errors import InvalidInput, UnsupportedMedia
from app.http.imported import checked, csv_lines, text_of
from app.packs.claims.schemas import MembersIn

MEMBER = ("user_id", "name", "email")
POLICY = ("product", "currency", "starts_on", "ends_on", "limits")
CLAIM = ("benefit", "state", "amount_claimed", "amount_paid", "incurred_on", "note")
COLUMNS = (*MEMBER, "policy_number", *POLICY, "claim_number", *CLAIM)
MAX_LINES = 50_000


def read_members(content_type: str, body: bytes) -> MembersIn:
    """The members of a JSON object `{"members": [...]}` or of a CSV file; takes up to a second for the largest.

    Raises Malformed for text that is not UTF-8, InvalidInput naming what is wrong where, UnsupportedMedia.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return checked(MembersIn, orjson.loads(body))
    if kind == "text/csv":
        return checked(MembersIn, {"members": _members_of_csv(text_of(body))})
    raise UnsupportedMedia("Send members as application/json or text/csv, named in Content-Type.")


def _members_of_csv(text: str) -> list[dict[str, Any]]:
    """Rows of one member, and of one policy in it, are put together; a row without a claim number adds no claim."""
    members: dict[str, dict[str, Any]] = {}
    for line, row in csv_lines(text, COLUMNS, "user_id", MAX_LINES):
        member = members.setdefault(row.get("user_id", ""), {**_some(row, MEMBER), "policies": {}, "claims": []})
        number = row.get("policy_number")
        if number and row.get("product"):
            member["policies"].setdefault(number, {"number": number, **_policy(line, row)})
        if row.get("claim_number"):
            member["claims"].append({"number": row["claim_number"], "policy": number, **_some(row, CLAIM)})
    return [{**member, "policies": list(member["policies"].values())} for member in members.values()]


def _policy(line: int, row: Mapping[str, str]) -> dict[str, Any]:
    policy: dict[str, Any] = _some(row, POLICY)
    policy["limits"] = _limits(line, row.get("limits", ""))
    return policy


def _limits(line: int, text: str) -> dict[str, str]:
    """`dental=120000;optical=30000`."""
    pairs = [pair.split("=") for pair in text.split(";") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidInput(f"Line {line}: write 'limits' as 'benefit=amount;benefit=amount'.")
    return {benefit.strip(): amount.strip() for benefit, amount in pairs}


def _some(row: Mapping[str, str], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: row[name] for name in names if name in row}
