"""Many leads at once: JSON Lines or CSV, each bad line reported, none of them stopping the others."""

import asyncio
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput, TrellisError, UnsupportedMedia
from app.http.imported import text_of
from app.http.strict import strict_json
from app.packs.leads.schemas import BatchReport, LeadIn, LineProblem
from app.packs.leads.service import LeadService
from app.principal import Principal, Role

MAX_LINES = 1_000
MAX_PROBLEMS = 1_000
FIELDS = frozenset(LeadIn.model_fields) - {"attributes"}
REQUIRED = tuple(name for name, field in LeadIn.model_fields.items() if field.is_required())

Line = tuple[int, Mapping[str, Any] | str]
"""A line's number, from 1, and its fields, or why it cannot be read."""


@dataclass(frozen=True, slots=True)
class Batch:
    leads: Sequence[LeadIn]
    problems: Sequence[LineProblem]


def json_lines(text: str) -> Iterator[Line]:
    # Only a line feed ends a line: splitlines() would also cut a string at U+2028.
    for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
        if not line.strip():
            continue
        try:
            value = strict_json(line.encode())
        except TrellisError as error:
            yield number, error.detail.replace("The body", "the line")
            continue
        yield number, value if isinstance(value, dict) else "is not a JSON object"


def csv_lines(text: str, columns: Mapping[str, str] | None = None) -> Iterator[Line]:
    """Rows of a CSV with a header. `columns` maps a field of a lead to the file's column; other columns become
    attributes. Raises InvalidInput where a required field has no column.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rename = {column: field for field, column in (columns or {}).items()}
    try:
        header = reader.fieldnames or []
    except csv.Error as error:
        raise InvalidInput(f"The header line is not CSV ({error}).") from None
    _check_header(header, columns or {}, rename)
    try:
        for row in reader:
            yield reader.line_num, _csv_fields(row, rename)
    except csv.Error as error:
        # Not the DictReader's own number: it stays behind at the last good row.
        yield reader.reader.line_num, f"is not CSV ({error}); the rest of the file is not read"


def _check_header(header: Sequence[str], columns: Mapping[str, str], rename: Mapping[str, str]) -> None:
    unknown = sorted(set(columns) - FIELDS)
    if unknown:
        raise InvalidInput(f"A lead has no field '{unknown[0]}': map one of {', '.join(sorted(FIELDS))}.")
    twice = sorted(name for name, times in Counter(header).items() if times > 1)
    if twice:
        raise InvalidInput(f"The file has the column '{twice[0][:80]}' twice: rename or remove one.")
    if len(header) == 1 and re.search(r"[;\t|]", header[0]):
        raise InvalidInput(f"The header is one column, '{header[0][:200]}': separate the columns by commas.")
    absent = sorted(set(columns.values()) - set(header))
    if absent:
        raise InvalidInput(f"The file has no column '{absent[0]}': it has {', '.join(header)[:500] or 'none'}.")
    missing = [field for field in REQUIRED if field not in {rename.get(name, name) for name in header}]
    if missing:
        raise InvalidInput(
            f"No column gives the field(s) {', '.join(missing)}; the file has {', '.join(header)[:500] or 'none'}. "
            "Rename a column or map it (--map field=column)."
        )


def _csv_fields(row: Mapping[Any, Any], rename: Mapping[str, str]) -> Mapping[str, Any] | str:
    if None in row:
        return "has more values than the header has columns"
    if any("\0" in value for value in row.values() if value is not None):
        return "holds a NUL character"
    if any(value is None for value in row.values()):
        return "has fewer values than the header has columns"
    named = {rename.get(name, name): value for name, value in row.items() if value != ""}
    attributes = {name: value for name, value in named.items() if name not in FIELDS}
    return {name: value for name, value in named.items() if name in FIELDS} | {"attributes": attributes}


def validated(lines: Iterator[Line]) -> Batch:
    """Raises InvalidInput for a batch of more than 1,000 lines or of none."""
    leads: list[LeadIn] = []
    problems: list[LineProblem] = []
    for number, fields in lines:
        if len(leads) + len(problems) >= MAX_LINES:
            raise InvalidInput(f"A batch holds at most {MAX_LINES:,} leads: split it.")
        if isinstance(fields, str):
            problems.append(LineProblem(line=number, problem=fields))
            continue
        try:
            leads.append(LeadIn.model_validate(fields))
        except ValidationError as error:
            problems.append(LineProblem(line=number, problem=_sentence(error)))
    if not leads and not problems:
        raise InvalidInput("The batch is empty: send one lead a line.")
    return Batch(leads, problems)


def _sentence(error: ValidationError) -> str:
    parts = [f"{'.'.join(map(str, e['loc'])) or 'lead'}: {e['msg']}" for e in error.errors(include_url=False)]
    return "; ".join(parts)[:500]


class Intake:
    def __init__(self, service: LeadService) -> None:
        self._service = service

    async def read(self, content_type: str, body: bytes) -> Batch:
        """Raises Malformed for text that is not UTF-8, UnsupportedMedia for another content type."""
        kind = content_type.partition(";")[0].strip().lower()
        text = text_of(body)
        if kind in ("application/x-ndjson", "application/jsonl"):
            return await asyncio.to_thread(validated, json_lines(text))
        if kind == "text/csv":
            return await asyncio.to_thread(validated, csv_lines(text))
        raise UnsupportedMedia("Send leads as application/x-ndjson or text/csv, named in Content-Type.")

    async def store(self, session: AsyncSession, principal: Principal, batch: Batch) -> BatchReport:
        principal.require(Role.AGENT)
        ids, known = await self._service.create_many(session, principal, batch.leads)
        return BatchReport(
            accepted=len(ids),
            known=known,
            refused=len(batch.problems),
            problems=list(batch.problems[:MAX_PROBLEMS]),
            problems_left_out=max(0, len(batch.problems) - MAX_PROBLEMS),
            lead_ids=ids,
        )
