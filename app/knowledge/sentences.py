"""Markdown to what can be quoted by itself, and a message to what it asks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LONGEST = 320
_SHORT_LINE = 60
_ABBREVIATIONS = ("zzgl", "inkl", "exkl", "bzw", "ca", "Nr", "z. B", "e.g", "i.e", "incl", "excl", "approx", "No", "Dr")
_NO_ABBREVIATION = "".join(rf"(?<!\b{re.escape(word)}\.)" for word in _ABBREVIATIONS)
_SENTENCE = re.compile(rf"(?<=[.!?…]){_NO_ABBREVIATION}\s+(?=[^\s|])|(?<=[。！？])|\n+")
_LEAD = re.compile(r"^\s*(?:[-*]\s+|\d+\.\s+)?\*\*(.+?)\*\*[:.]?\s*")
_MARKUP = re.compile(r"\*{1,3}|`|^#{1,6}\s+|^\s*(?:[-*]|\d+\.)\s+", re.MULTILINE)
_ROW = re.compile(r"^\s*\|(.+)\|\s*$")
_RULE = re.compile(r"^[\s|:-]+$")
# What begins a line of its own, and what a wrapped line never goes on from.
_BEGINS = re.compile(r"^\s*(?:$|[#>|]|[-*+]\s|\d+[.)]\s|\*\*|```|~~~)")
_COMPLETE = re.compile(r"^\s*(?:$|[#|]|```|~~~)|(?:  |\\)$")
_QUESTION = re.compile(r"[?？؟;]\s*[)\"'»”]*$|か[。]?$")
_GREEK_QUESTION = ";"


@dataclass(frozen=True, slots=True)
class Sentence:
    """`context` is what the page writes in front of the sentence: a bold question, a label.

    `first` to `last` are the places of the single sentences in it, counted through the text.
    """

    text: str
    context: str
    first: int
    last: int


def quotable(text: str) -> Iterator[Sentence]:
    """Sentences, neighbours together where both are short, and rows of tables spelled out; in reading order."""
    place = 0
    head: list[str] | None = None
    for line in _unwrapped(text):
        row = _ROW.match(line)
        if row is None:
            head = None
            found = list(_paragraph(line, place))
            yield from found
            place += len(found)
        elif _RULE.match(line):
            continue
        elif head is None:
            head = _cells(row[1])
        else:
            yield Sentence(_shortened(_spoken_row(head, _cells(row[1]))), "", place, place)
            place += 1


def questions(message: str) -> list[str]:
    """The sentences that ask; every sentence where none does."""
    parts = [part.strip() for part in _SENTENCE.split(message) if part.strip()]
    asking = [part for part in parts if _QUESTION.search(part) and not part.endswith(_GREEK_QUESTION)]
    greek = [part for part in parts if part.endswith(_GREEK_QUESTION) and not part.isascii()]
    return asking or greek or parts


def _unwrapped(text: str) -> Iterator[str]:
    """The lines of a text with each paragraph on one, however its author broke them (CommonMark's soft breaks)."""
    whole = ""
    for line in text.splitlines():
        if _BEGINS.match(line) or _COMPLETE.search(whole):
            yield whole
            whole = line
        else:
            whole = f"{whole} {line.strip()}"
    yield whole


def _paragraph(line: str, place: int) -> Iterator[Sentence]:
    """A bold lead that asks is context alone; another one belongs to its first sentence too."""
    lead = _LEAD.match(line)
    context = _plain(lead[1]) if lead else ""
    parts = [_plain(part) for part in _SENTENCE.split(line[lead.end() :] if lead else line) if _plain(part)]
    if lead and not parts:
        yield Sentence(_shortened(context), "", place, place)
    for at, part in enumerate(parts, place):
        labelled = at == place and context and not context.endswith("?") and len(part) < _SHORT_LINE
        yield Sentence(_shortened(f"{context.rstrip('.:')}: {part}" if labelled else part), context, at, at)
        following = parts[at - place + 1] if at - place + 1 < len(parts) else None
        if following and len(part) + len(following) < LONGEST:
            yield Sentence(f"{part} {following}", context, at, at + 1)


def _plain(text: str) -> str:
    return " ".join(_MARKUP.sub("", text).split())


def _cells(row: str) -> list[str]:
    return [_plain(cell) for cell in row.split("|")]


def _spoken_row(head: Sequence[str], cells: Sequence[str]) -> str:
    pairs = [f"{name} {cell}".strip() for name, cell in zip(head[1:], cells[1:], strict=False) if cell]
    return f"{cells[0]}: {', '.join(pairs)}" if pairs else cells[0]


def _shortened(sentence: str) -> str:
    if len(sentence) <= LONGEST:
        return sentence
    return sentence[: LONGEST - 1].rsplit(" ", 1)[0] + "…"
