"""What bodies that bring many rows have in common, whichever pack reads them: text, lines, sentences."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import InvalidInput, Malformed

Model = TypeVar("Model", bound=BaseModel)

MOST_PROBLEMS: Final = 5


def text_of(body: bytes) -> str:
    """The body as text, without a byte order mark. Raises Malformed where it is not UTF-8."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Malformed(f"The body is not UTF-8: byte {error.start} cannot be read.") from None


def checked(model: type[Model], document: Any) -> Model:
    """The document as its type. Raises InvalidInput naming the first problems and where they are."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        shown = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in problems[:MOST_PROBLEMS]]
        rest = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise InvalidInput(f"{'; '.join(shown)}{rest}.") from None


def csv_lines(text: str, columns: Sequence[str], key: str, most: int) -> list[tuple[int, Mapping[str, str]]]:
    """The file's lines with their numbers; a value that is empty or blank is left out.

    Raises InvalidInput for a column that is none of `columns`, one named `key` that is missing, a line that does not
    fit the header, more than `most` lines, and what is not CSV.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    lines: list[tuple[int, Mapping[str, str]]] = []
    try:
        _check_header(reader.fieldnames or (), columns, key)
        for row in reader:
            if len(lines) >= most:
                raise InvalidInput(f"The file has more than {most:,} lines: split it.")
            if None in row or None in row.values():
                raise InvalidInput(f"Line {reader.line_num} has more or fewer values than the header has columns.")
            lines.append((reader.line_num, {name: value.strip() for name, value in row.items() if value.strip()}))
    except csv.Error as error:
        raise InvalidInput(f"Line {reader.reader.line_num} is not CSV ({error}).") from None
    return lines


def _check_header(header: Sequence[str], columns: Sequence[str], key: str) -> None:
    unknown = sorted(set(header) - set(columns))
    if unknown or key not in header:
        what = f"has the column '{unknown[0][:80]}'" if unknown else f"has no column '{key}'"
        raise InvalidInput(f"The file {what}: its columns are {', '.join(columns)}.")
