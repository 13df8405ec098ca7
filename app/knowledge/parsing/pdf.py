"""PDF: the text of its pages, lines put together to paragraphs again."""

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from app.knowledge.parsing.base import Limits, Parsed, Unreadable, named
from app.knowledge.parsing.markdown import heading, item, joined, one_line, paragraph

MAX_PAGES = 2000
_END = b"%%EOF"
_END_WITHIN = 2048
_BULLET = re.compile(r"^\s*[•◦▪‣●■\-–*·\uf0b7]\s+(?=\S)")
_NUMBERED = re.compile(r"^\s*(?:\(?\d{1,3}[.)]|[a-z]\))\s+\S")
_SENTENCE_END = re.compile(r"[.!?:;…。！？][\"'”’»)\]]*$")
_CJK = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_DIGITS = re.compile(r"\d+")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_NO_TITLE = re.compile(r"(?i)untitled|.*\.(?:docx?|indd|tex|dvi|pages|qxd|pptx?|xlsx?)$")
_EDGE_LINES = 2
_RUNNING_HEAD = 80
_PAGE_NUMBER = re.compile(r"\W*(?:\d{1,4}|[ivxlc]{1,6})\W*")
_SECTION_NUMBER = re.compile(r"^(?:(?:chapter|section|appendix)\s+)?(?:\d+|[A-Z])(?:\.\d+)*[.:)]?\s+(?=\S)", re.I)


def read_pdf(content: bytes, file_name: str | None, limits: Limits) -> Parsed:
    """The text of every page; running heads and page numbers out, the outline's entries as headings.

    Raises Unreadable for a file that is cut off, protected, too long, or without any text.
    """
    name = named(file_name)
    if _END not in content[-_END_WITHIN:]:
        raise Unreadable(f"{name} is cut off, the end of the PDF is missing: upload the whole file again.")
    reader = _open(content, name)
    pages, warnings = _pages(reader, limits, name)
    outline = _outline(reader)
    text = joined(_block(block, outline) for block in _blocks(_without_running_heads(pages)))
    return Parsed(_title(reader), text, warnings)


def _open(content: bytes, name: str) -> PdfReader:
    reader = PdfReader(BytesIO(content), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unreadable(f"{name} is protected by a password: save it without one and upload it again.")
    count = len(reader.pages)
    if count > MAX_PAGES:
        raise Unreadable(f"{name} has {count:,} pages, at most {MAX_PAGES:,} are read: split it.")
    return reader


def _pages(reader: PdfReader, limits: Limits, name: str) -> tuple[list[list[str]], tuple[str, ...]]:
    """The lines of each page that holds text, and a warning for the pages that do not."""
    pages: list[list[str]] = []
    broken, blank = [], []
    left = limits.characters
    for number, page in enumerate(reader.pages, 1):
        try:
            text = page.extract_text().translate(_LIGATURES)
        except (PyPdfError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            broken.append(number)
            continue
        left -= len(text)
        if left < -limits.characters:  # what joining lines may still take away is far less
            break
        lines = [line.rstrip() for line in text.split("\n")]
        (pages.append(lines) if text.strip() else blank.append(number))
    if not pages:
        raise Unreadable(_nothing(name, broken))
    return pages, tuple(_missing(broken, "could not be read") + _missing(blank, "without any text"))


def _nothing(name: str, broken: Sequence[int]) -> str:
    if broken:
        return f"{name} is damaged, none of its pages can be read: open it in a PDF viewer, print it to a new PDF."
    return f"{name} holds pictures of pages, but no text: run text recognition (OCR) over it and upload the result."


def _missing(numbers: Sequence[int], what: str) -> list[str]:
    if not numbers:
        return []
    shown = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    return [f"Pages {what}: {shown}."]


def _without_running_heads(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """Pages without the short lines that stand at the edge of most pages, such as page numbers."""
    edges = Counter(key for lines in pages for key in {_key(lines[index]) for index in _edges(lines)})
    running = {key for key, times in edges.items() if len(pages) >= 3 and times > len(pages) * 0.6}
    kept = []
    for lines in pages:
        out = {
            index for index in _edges(lines) if _key(lines[index]) in running or _PAGE_NUMBER.fullmatch(lines[index])
        }
        kept.append([line for index, line in enumerate(lines) if index not in out])
    return kept


def _edges(lines: Sequence[str]) -> list[int]:
    """Where a running head may stand: short lines, no sentences, at either end of a page that holds more than these."""
    filled = [index for index, line in enumerate(lines) if line.strip()]
    edges = sorted({*filled[:_EDGE_LINES], *filled[-_EDGE_LINES:]}) if len(filled) > 2 * _EDGE_LINES else []
    return [index for index in edges if len(lines[index]) <= _RUNNING_HEAD and not _SENTENCE_END.search(lines[index])]


def _key(line: str) -> str:
    return _DIGITS.sub("0", one_line(line))


def _blocks(pages: Sequence[Sequence[str]]) -> Iterator[str]:
    """Paragraphs; one that runs on over the page's end is one."""
    lengths = [len(line) for lines in pages for line in lines if line.strip()]
    width = statistics.quantiles(lengths, n=10)[-1] if len(lengths) > 1 else 80.0
    open_block = ""
    for lines in pages:
        last = ""
        for line in lines:
            if open_block and (_begins(last, line, width) if last else _new_page_begins(open_block, line)):
                yield open_block
                open_block = ""
            open_block = _join(open_block, line)
            last = line or "\n"
    if open_block:
        yield open_block


def _begins(before: str, line: str, width: float) -> bool:
    """Whether `line` begins a paragraph: a gap, a bullet, or a line before it that did not need to end there."""
    if not before.strip() or not line.strip() or _BULLET.match(line) or _NUMBERED.match(line):
        return True
    ended = bool(_SENTENCE_END.search(before))
    return len(before) < width * (0.85 if ended else 0.5)


def _new_page_begins(open_block: str, line: str) -> bool:
    runs_on = line.lstrip()[:1].islower() and not _SENTENCE_END.search(open_block)
    return not runs_on


def _join(text: str, line: str) -> str:
    line = line.strip()
    if not text or not line:
        return text or line
    if text.endswith("-") and line[0].islower() and text[-2:-1].isalpha():
        return text[:-1] + line
    if _CJK.match(text[-1]) and _CJK.match(line[0]):
        return text + line
    return f"{text} {line}"


def _block(text: str, outline: Mapping[str, int]) -> tuple[str, bool]:
    """Markdown, and whether it is a list's item."""
    level = outline.get(_entry(text))
    if level is not None:
        return heading(level, text), False
    bullet = _BULLET.match(text)
    return (item(text[bullet.end() :], 0, None), True) if bullet else (paragraph(text), False)


def _outline(reader: PdfReader) -> dict[str, int]:
    """Headings by the bookmarks: their text to their depth. A damaged outline is none."""
    levels: dict[str, int] = {}
    try:
        stack: list[tuple[Any, int]] = [(reader.outline, 1)]
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return levels
    while stack:
        entry, depth = stack.pop()
        if isinstance(entry, list):
            stack.extend((child, depth + isinstance(child, list)) for child in entry)
        elif isinstance(entry.title, str):
            levels.setdefault(_entry(entry.title), depth)
    return levels


def _entry(title: str) -> str:
    """A heading as it is compared: the page may number it where the bookmark does not."""
    return _SECTION_NUMBER.sub("", one_line(title)).casefold()


def _title(reader: PdfReader) -> str | None:
    try:
        title = reader.metadata.title if reader.metadata else None
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError):
        return None
    title = one_line(title).removeprefix("Microsoft Word - ") if isinstance(title, str) else ""
    return title if title and not _NO_TITLE.fullmatch(title) else None
