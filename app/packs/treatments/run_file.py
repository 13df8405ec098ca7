"""A list of customers as a file: taken in as it arrives, read line by line, never held whole."""

import asyncio
import csv
import io
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import IO, Any, Final

from app.errors import InvalidInput, Malformed, TrellisError, UnsupportedMedia
from app.http.strict import strict_json

CSV: Final = "text/csv"
JSON_LINES: Final = ("application/x-ndjson", "application/jsonl")
COLUMN: Final = "external_id"
IN_MEMORY: Final = 1 << 20
MAX_ID: Final = 128


@asynccontextmanager
async def spooled(chunks: AsyncIterable[bytes]) -> AsyncIterator[IO[bytes]]:
    """What arrives, in memory as far as it is small, else in a file that goes with the block."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)
        file.seek(0)
        yield file


def external_ids(content_type: str, file: IO[bytes]) -> Iterator[str]:
    """The customers that a file names: a CSV with the column `external_id`, or JSON Lines with that member.

    Raises UnsupportedMedia at once; InvalidInput and Malformed as the lines are read, naming the line.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == CSV:
        return _of_csv(file)
    if kind in JSON_LINES:
        return _of_json_lines(file)
    raise UnsupportedMedia("Send application/json, or a list of customers as text/csv or application/x-ndjson.")


def _of_csv(file: IO[bytes]) -> Iterator[str]:
    with _text(file) as text:
        reader = csv.DictReader(text, strict=True)
        try:
            if COLUMN not in (reader.fieldnames or ()):
                has = ", ".join(reader.fieldnames or ())[:300] or "no columns"
                raise InvalidInput(f"The file has no column '{COLUMN}': it has {has}.")
            for row in reader:
                yield _checked(row[COLUMN], reader.line_num)
        except csv.Error as error:
            raise InvalidInput(f"Line {reader.reader.line_num} is not CSV ({error}).") from None


def _of_json_lines(file: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = strict_json(line)
        except TrellisError as error:
            raise type(error)(f"Line {number}: {error.detail}") from None
        yield _checked(value.get(COLUMN) if isinstance(value, dict) else None, number)


def _checked(value: Any, line: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= MAX_ID or "\0" in value:
        raise InvalidInput(f"Line {line} has no '{COLUMN}': it names a customer in 1 to {MAX_ID} characters.")
    return value.strip()


@contextmanager
def _text(file: IO[bytes]) -> Iterator[IO[str]]:
    """The file as UTF-8; the file itself stays open. Raises Malformed."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield text
    except UnicodeDecodeError as error:
        raise Malformed(f"The file is not UTF-8: byte {error.start} of a part cannot be read.") from None
    finally:
        text.detach()
