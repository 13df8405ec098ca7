"""Members, policies and claims from a file: JSON, or CSV with a claim a line."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from app.errors import InvalidInput, Malformed, UnsupportedMedia
from app.packs.claims.schemas import MembersIn

MEMBER = ("user_id", "name", "email")
POLICY = ("product", "currency", "starts_on", "ends_on", "limits")
CLAIM = ("benefit", "state", "amount_claimed", "amount_paid", "incurred_on", "note")
COLUMNS = (*MEMBER, "policy_number", *POLICY, "claim_number", *CLAIM)
MAX_LINES = 50_000
_MAX_PROBLEMS = 5


def read_members(content_type: str, body: bytes) -> MembersIn:
    """The members of a JSON object `{"members": [...]}` or of a CSV file; takes up to a second for the largest.

    Raises Malformed for text that is not UTF-8, InvalidInput naming what is wrong where, UnsupportedMedia.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return _validated(orjson.loads(body))
    if kind == "text/csv":
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Malformed(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
        return _validated({"members": _members_of_csv(text)})
    raise UnsupportedMedia("Send members as application/json or text/csv, named in Content-Type.")


def _validated(document: Any) -> MembersIn:
    try:
        return MembersIn.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        shown = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in problems[:_MAX_PROBLEMS]]
        rest = f"; and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
        raise InvalidInput(f"{'; '.join(shown)}{rest}.") from None


def _members_of_csv(text: str) -> list[dict[str, Any]]:
    """Rows of one member, and of one policy in it, are put together; a row without a claim number adds no claim."""
    members: dict[str, dict[str, Any]] = {}
    for line, row in _rows(text):
        member = members.setdefault(row.get("user_id", ""), {**_some(row, MEMBER), "policies": {}, "claims": []})
        number = row.get("policy_number")
        if number and row.get("product"):
            member["policies"].setdefault(number, {"number": number, **_policy(line, row)})
        if row.get("claim_number"):
            member["claims"].append({"number": row["claim_number"], "policy": number, **_some(row, CLAIM)})
    return [{**member, "policies": list(member["policies"].values())} for member in members.values()]


def _rows(text: str) -> list[tuple[int, Mapping[str, str]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, Mapping[str, str]]] = []
    try:
        unknown = sorted(set(reader.fieldnames or ()) - set(COLUMNS))
        if unknown or "user_id" not in (reader.fieldnames or ()):
            what = f"has the column '{unknown[0][:80]}'" if unknown else "has no column 'user_id'"
            raise InvalidInput(f"The file {what}: its columns are {', '.join(COLUMNS)}.")
        for row in reader:
            if None in row or None in row.values() or len(rows) >= MAX_LINES:
                raise InvalidInput(_line_problem(reader.line_num, len(rows)))
            rows.append((reader.line_num, {name: value.strip() for name, value in row.items() if value.strip()}))
    except csv.Error as error:
        raise InvalidInput(f"Line {reader.reader.line_num} is not CSV ({error}).") from None
    return rows


def _line_problem(line: int, read: int) -> str:
    if read >= MAX_LINES:
        return f"The file has more than {MAX_LINES:,} lines: split it."
    return f"Line {line} has more or fewer values than the header has columns."


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
