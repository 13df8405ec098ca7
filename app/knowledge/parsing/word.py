"""Word files (.docx): headings by style, lists, tables; deleted and hidden text stays out."""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from io import BytesIO
from typing import Any

from docx import Document
from docx.opc.constants import RELATIONSHIP_TYPE

from app.knowledge.parsing.base import Parsed, Unreadable, named
from app.knowledge.parsing.markdown import heading, item, joined, one_line, paragraph, table

MAX_MEMBERS = 5_000
MAX_UNPACKED = 100 << 20
_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SKIPPED = frozenset({f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}delText", _FALLBACK})
_BREAKS = {f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}tab": " ", f"{_W}noBreakHyphen": "-", f"{_W}p": " "}
_DECLARATION = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.I)
_HEADING_STYLE = re.compile(r"heading ([1-9])", re.I)
_MAX_BASE_STYLES = 20
_TINY_HALF_POINTS = 2
_BLOCK = 1 << 20


def read_word(content: bytes, file_name: str | None) -> Parsed:
    """Raises Unreadable for an archive that is damaged, protected, too large unpacked, or carries macros."""
    _check_archive(content, named(file_name))
    body = _Body(Document(BytesIO(content)))
    return Parsed(body.title, joined(body.blocks()))


def _check_archive(content: bytes, name: str) -> None:
    """Unpacks every member once, counting: what the archive declares about itself proves nothing."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            _check_members(archive.infolist(), name)
            unpacked = 0
            for member in archive.infolist():
                unpacked += _check_member(archive, member, MAX_UNPACKED - unpacked, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError):
        raise Unreadable(f"{name} is damaged or cut off: save it in Word again and upload it whole.") from None


def _check_members(members: list[zipfile.ZipInfo], name: str) -> None:
    if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_UNPACKED:
        raise _too_large(name)
    if any(member.flag_bits & 1 for member in members):
        raise Unreadable(f"{name} is protected by a password: save it without one and upload it again.")
    if any(member.filename.lower().endswith("vbaproject.bin") for member in members):
        raise Unreadable(f"{name} carries macros: save it as .docx without them and upload it again.")


def _check_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int, name: str) -> int:
    is_xml = member.filename.lower().endswith((".xml", ".rels"))
    size, tail = 0, b""
    with archive.open(member) as stream:
        while block := stream.read(_BLOCK):
            size += len(block)
            if size > left:
                raise _too_large(name)
            # UTF-16 and UTF-32 put zeros between the letters.
            if is_xml and _DECLARATION.search((tail + block).replace(b"\0", b"")):
                raise Unreadable(
                    f"{name} declares XML entities, which no Word file needs: save it in Word again and upload that."
                )
            tail = block[-64:]
    return size


def _too_large(name: str) -> Unreadable:
    return Unreadable(
        f"{name} unpacks to more than {MAX_UNPACKED >> 20} MB or {MAX_MEMBERS:,} parts: take its pictures out, "
        "or split it."
    )


class _Body:
    """Walks the XML itself: python-docx's own paragraphs leave out content controls and tracked insertions."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._counts: Counter[tuple[str, int]] = Counter()

    @property
    def title(self) -> str | None:
        """The paragraph in the style Title, else the property, else the first heading."""
        found: dict[str, str] = {}
        for element in self._document.element.body.iter(f"{_W}p"):
            names = self._style_names(element)
            kind = "title" if "title" in names else "heading" if "heading 1" in names else ""
            if kind and (text := one_line(_text(element))):
                found.setdefault(kind, text)
            if "title" in found:
                break
        said = one_line(self._document.core_properties.title or "")
        return found.get("title") or said or found.get("heading")

    def blocks(self) -> Iterator[tuple[str, bool]]:
        yield from self._blocks(self._document.element.body)

    def _blocks(self, parent: Any) -> Iterator[tuple[str, bool]]:
        for element in parent:
            if element.tag == f"{_W}p":
                yield from self._paragraph(element)
            elif element.tag == f"{_W}tbl":
                yield from self._table(element)
            elif element.tag in (f"{_W}sdt", f"{_W}sdtContent", f"{_W}ins", f"{_W}customXml", f"{_W}moveTo"):
                yield from self._blocks(element)

    def _paragraph(self, element: Any) -> Iterator[tuple[str, bool]]:
        text = _text(element)
        if not text.strip():
            return
        level, numbering = self._level(element), self._numbering(element)
        if level is not None:
            yield heading(level, text), False
        elif numbering is not None:
            depth, number = numbering
            yield item(text, depth, number), True
        else:
            yield paragraph(text), False

    def _table(self, element: Any) -> Iterator[tuple[str, bool]]:
        """A table of one column is a frame around text."""
        rows = [list(_cells(row)) for row in element.iter(f"{_W}tr") if row.getparent() is element]
        if all(len(row) == 1 for row in rows):
            for row in element.iter(f"{_W}tc"):
                if row.getparent().getparent() is element:
                    yield from self._blocks(row)
            return
        if rendered := table(rows):
            yield rendered, False

    @cached_property
    def _styles(self) -> dict[str, Any]:
        return {style.get(f"{_W}styleId"): style for style in self._document.styles.element.iter(f"{_W}style")}

    def _style_chain(self, element: Any) -> list[Any]:
        """The paragraph's style and those that it is based on, the nearest first."""
        identifier = _value(element, "pPr", "pStyle")
        chain: list[Any] = []
        while identifier in self._styles and len(chain) < _MAX_BASE_STYLES:
            chain.append(self._styles[identifier])
            identifier = _value(chain[-1], "basedOn")
        return chain

    def _style_names(self, element: Any) -> list[str]:
        return [(_value(style, "name") or "").lower() for style in self._style_chain(element)]

    def _level(self, element: Any) -> int | None:
        for name in self._style_names(element):
            if name == "title":
                return 1
            if match := _HEADING_STYLE.fullmatch(name):
                return int(match[1])
        outline = _value(element, "pPr", "outlineLvl") or ""
        return int(outline) + 1 if outline.isdecimal() and int(outline) < 9 else None

    def _numbering(self, element: Any) -> tuple[int, int | None] | None:
        """Depth and number (None for a bullet) of a list item; None for another paragraph."""
        for source in (element, *self._style_chain(element)):
            number_id = _value(source, "pPr", "numPr", "numId")
            if number_id is None:
                continue
            raw = _value(source, "pPr", "numPr", "ilvl") or "0"
            depth = min(int(raw), 8) if raw.isdecimal() else 0
            return None if number_id == "0" else (depth, self._next(number_id, depth))
        return None

    def _next(self, number_id: str, depth: int) -> int | None:
        if self._formats.get((number_id, depth), "bullet") in ("bullet", "none"):
            return None
        self._counts[number_id, depth] += 1
        for deeper in range(depth + 1, 9):
            self._counts.pop((number_id, deeper), None)
        return self._counts[number_id, depth]

    @cached_property
    def _formats(self) -> dict[tuple[str, int], str]:
        """The number format by list and depth; empty where the file has no lists."""
        related = self._document.part.rels.values()
        parts = [
            rel.target_part for rel in related if rel.reltype == RELATIONSHIP_TYPE.NUMBERING and not rel.is_external
        ]
        if not parts:
            return {}
        root = parts[0].element
        abstract = {found.get(f"{_W}abstractNumId"): found for found in root.iter(f"{_W}abstractNum")}
        formats = {}
        for number in root.iter(f"{_W}num"):
            definition = abstract.get(_value(number, "abstractNumId"))
            for depth, level in enumerate([] if definition is None else definition.iter(f"{_W}lvl")):
                formats[number.get(f"{_W}numId"), depth] = _value(level, "numFmt") or "bullet"
        return formats


def _value(element: Any, *path: str) -> str | None:
    """The `w:val` at the end of a path of children; None where there is none."""
    found = element.find("/".join(f"{_W}{name}" for name in path))
    value = None if found is None else found.get(f"{_W}val")
    return None if value is None else str(value)


def _cells(row: Any) -> Iterator[str]:
    for cell in row.iter(f"{_W}tc"):
        if cell.getparent() is not row:
            continue
        merged = cell.find(f"{_W}tcPr/{_W}vMerge")
        goes_on = merged is not None and merged.get(f"{_W}val") != "restart"
        yield "" if goes_on else _text(cell)
        span = _value(cell, "tcPr", "gridSpan") or "1"
        yield from [""] * (min(int(span), 64) - 1 if span.isdecimal() else 0)


def _text(element: Any) -> str:
    """What a reader sees of a paragraph or a cell; XML of this depth (256 at most) may be walked by recursion."""
    return "".join(_parts(element)).strip()


def _parts(element: Any) -> Iterator[str]:
    for child in element:
        if child.tag in _SKIPPED or (child.tag == f"{_W}r" and _hidden(child)):
            continue
        if child.tag == f"{_W}t":
            yield child.text or ""
            continue
        if child.tag in _BREAKS:
            yield _BREAKS[child.tag]
        yield from _parts(child)


def _hidden(run: Any) -> bool:
    """Marked as hidden, or of a size that nobody can read."""
    vanish = run.find(f"{_W}rPr/{_W}vanish")
    if vanish is not None and vanish.get(f"{_W}val") not in ("0", "false", "off"):
        return True
    size = _value(run, "rPr", "sz") or ""
    return size.isdecimal() and int(size) <= _TINY_HALF_POINTS
