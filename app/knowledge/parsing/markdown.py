"""Markdown that the chunker cuts where the file's author parted it."""

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest

_SPACE = re.compile(r"[^\S\n]+")
# At the start of a line these would make a plain sentence a heading, a quotation, a fence, or swallow it whole.
_SPECIAL = re.compile(r"^(?=#{1,6}(?:\s|$)|>|```|~~~|[-=]+\s*$|\[[^\]]*\]:)", re.M)
_REFERENCE = re.compile(r"^(?= {0,3}\[[^\]\n]+\]:)", re.M)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
# Break points and marks that are seen nowhere and part words for the search. Direction marks and tag characters
# stay: the screening of chunks finds them and keeps the chunk out of evidence.
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff]")
_LINE_BREAK = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_BLANK = re.compile(r"[^\S\n]+$", re.M)
_GAP = re.compile(r"\n{3,}")


def one_line(text: str) -> str:
    return " ".join(text.split())


def paragraph(text: str) -> str:
    """Running text as one block; its line breaks stay."""
    lines = (line.strip() for line in _SPACE.sub(" ", text).split("\n"))
    return _SPECIAL.sub("\\\\", "\n".join(filter(None, lines)))


def heading(level: int, text: str) -> str:
    return f"{'#' * min(max(level, 1), 6)} {one_line(text)}"


def item(text: str, depth: int, number: int | None) -> str:
    """A list item at `depth` (0 is the outermost); `number` where the list counts."""
    return f"{'   ' * depth}{'-' if number is None else f'{number}.'} {one_line(text)}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; short rows are filled up. Empty where no cell holds text."""
    kept = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows if any(map(str.strip, row))]
    if not kept:
        return ""
    columns = [column for column in zip_longest(*kept, fillvalue="") if any(column)]
    lines = [f"| {' | '.join(row)} |" for row in zip(*columns, strict=True)]
    return "\n".join([lines[0], f"|{' --- |' * len(columns)}", *lines[1:]])


def fence(text: str) -> str:
    """Text whose spaces and line breaks mean something."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}\n{text.strip(chr(10)).rstrip()}\n{mark}"


def joined(blocks: Iterable[tuple[str, bool]]) -> str:
    """Blocks to one text; each comes with whether it is an item, and items that follow one another are one list."""
    parts: list[str] = []
    was_item = False
    for text, is_item in blocks:
        parts += ["\n" if is_item and was_item else "\n\n", text]
        was_item = is_item
    return "".join(parts[1:])


def keep_references(text: str) -> str:
    """Plain text in which a line such as `[1]: ...` is not taken for a link's target and dropped."""
    return _REFERENCE.sub("\\\\", text)


def tidy(text: str) -> str:
    """Without control characters, unseen break points, trailing spaces and long gaps."""
    text = _LINE_BREAK.sub("\n", text)
    text = _UNSEEN.sub("", _CONTROL.sub("", text))
    return _GAP.sub("\n\n", _BLANK.sub("", text)).strip("\n")
