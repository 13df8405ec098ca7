"""Files of customers or outcomes of any size, in parts that `reading` takes."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from app.errors import InvalidInput
from app.packs.treatments.reading import CSV, JSON, JSON_LINES

PART_LINES: Final = 5_000
_KINDS: Final = {".csv": CSV, ".jsonl": JSON_LINES[0], ".ndjson": JSON_LINES[0], ".json": JSON}

Part = tuple[str, bytes]
"""A content type, and a body of it. Its lines have the numbers that they have in the file."""


def parts_of(file: Path) -> Iterator[Part]:
    """The file in order. Lines of a CSV that follow each other and are of one customer stay together.

    Raises InvalidInput for a file that cannot be read, or of another kind.
    """
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        raise InvalidInput(f"{file} is of no kind that is read: give {', '.join(sorted(_KINDS))}.")
    try:
        with file.open("rb") as opened:
            if kind == JSON:
                yield kind, opened.read()
            else:
                cut = _csv_parts(opened) if kind == CSV else _line_parts(opened)
                yield from ((kind, part) for part in cut)
    except (OSError, UnicodeError, csv.Error) as error:
        raise InvalidInput(f"{file} cannot be read ({error}): check the path, and that it is UTF-8.") from None


def _line_parts(file: IO[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    before = 0
    for number, line in enumerate(file):
        if len(held) == PART_LINES:
            # Empty lines are skipped, and keep the numbers of the others.
            yield b"\n" * before + b"".join(held)
            held, before = [], number
        held.append(line)
    if held:
        yield b"\n" * before + b"".join(held)


def _csv_parts(file: IO[bytes]) -> Iterator[bytes]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    header = next(reader, [])
    part = _CsvPart(header, reader.line_num)
    for row in reader:
        if part.full and row[:1] != part.last:
            yield part.body()
            part = _CsvPart(header, reader.line_num - 1)
        part.add(row)
    yield part.body()


class _CsvPart:
    """Rows under the file's header. A customer's own rows are told apart by the first column."""

    def __init__(self, header: list[str], lines_before: int) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(header)
        self._text.write("\n" * max(0, lines_before - 1))
        self._rows = 0
        self.last: list[str] = []

    @property
    def full(self) -> bool:
        return self._rows >= PART_LINES

    def add(self, row: list[str]) -> None:
        self._writer.writerow(row)
        self._rows += 1
        self.last = row[:1]

    def body(self) -> bytes:
        return self._text.getvalue().encode()
