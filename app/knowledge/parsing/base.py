"""What a reader of files answers, and the bounds that it keeps. Imported by both processes."""

import struct
from dataclasses import dataclass

from app.errors import InvalidInput
from app.knowledge.page import MAX_CHARACTERS

REQUEST = struct.Struct(">II")
"""Before a request: the bytes of its JSON part and of the file."""
ANSWER = struct.Struct(">I")
"""Before an answer: its bytes."""
MAX_TITLE = 200
_MAX_NAME = 80


class Unreadable(InvalidInput):
    """A file that cannot become text; the sentence names it and says what to do."""

    code, title = "unreadable-file", "The file cannot be read"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The text of a file.

    Args:
        title: what the file calls itself, at most 200 characters; None where it does not say.
        text: Markdown of at most `Limits.characters`, never blank.
        warnings: a sentence for each part that was repaired or left out.
    """

    title: str | None
    text: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may cost.

    Args:
        memory_bytes: address space of the reading process, its own 200 MB included.
        cpu_s: processor time.
        wall_s: time from handing the file over to its text.
        characters: length of the text.
    """

    memory_bytes: int = 1 << 30
    cpu_s: int = 20
    wall_s: float = 30.0
    characters: int = MAX_CHARACTERS


def named(file_name: str | None) -> str:
    """How a sentence speaks of the file: on one line, cut to 80 characters."""
    name = "".join(filter(str.isprintable, file_name or "")).strip()
    return f"'{name[:_MAX_NAME]}'" if name else "The file"
