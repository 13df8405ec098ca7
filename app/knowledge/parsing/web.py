"""HTML to Markdown: what a reader of the page sees, without its navigation."""

import re
from dataclasses import dataclass, field
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from app.knowledge.parsing import plain
from app.knowledge.parsing.base import Parsed, Unreadable, named
from app.knowledge.parsing.hidden import remove, remove_hidden
from app.knowledge.parsing.markdown import fence, heading, item, joined, one_line, paragraph, table

# The HTML parser's time grows with the square of the depth: 22 s at 100,000.
MAX_DEPTH = 10_000
_NOT_TEXT = (
    "head, script, style, noscript, template, iframe, object, embed, svg, canvas, video, audio, button, input, "
    "select, textarea, dialog, nav, aside, footer, [role=navigation], [role=banner], [role=contentinfo], [role=search]"
)
_BLOCKS: Final = (
    {"address", "article", "blockquote", "body", "caption", "dd", "details", "div", "dl", "dt", "fieldset"}
    | {"figcaption", "figure", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hgroup", "hr", "html", "legend"}
    | {"li", "main", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"}
)
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*+)([^<>]*+)>")
# Tags without an end, or whose end HTML lets the author leave out.
_UNPAIRED: Final = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
} | {"p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option"}
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.I)
_CHARSETS = re.compile(
    r"(?i)iso-8859-\d{1,2}|windows-125\d|cp125\d|shift_jis|euc-jp|euc-kr|gb2312|gbk|gb18030|big5|koi8-[ru]|latin-?1"
)
_LATIN = re.compile(r"(?i)iso-8859-1|latin-?1")
_HEAD_BYTES = 2048
_MAX_CELL = 1000
_MAX_SPAN = 64


def read_html(content: bytes, file_name: str | None) -> Parsed:
    """Raises Unreadable for a page that is nested too deeply."""
    source, warnings = _decode(content, file_name)
    if _depth(source) > MAX_DEPTH:
        raise Unreadable(
            f"{named(file_name)} nests its elements more than {MAX_DEPTH:,} deep: save the page's text instead."
        )
    page = LexborHTMLParser(source)
    title = _title(page)
    remove_hidden(page)
    root = _content(page)
    return Parsed(title, _Writer().write(root) if root is not None else "", warnings)


def _decode(content: bytes, file_name: str | None) -> tuple[str, tuple[str, ...]]:
    """As HTML asks: by mark, then UTF-8, then what the page declares, then a guess."""
    declared = _CHARSET.search(content[:_HEAD_BYTES])
    charset = declared[1].decode("ascii") if declared else ""
    if _CHARSETS.fullmatch(charset):
        try:
            content.decode()
        except UnicodeDecodeError:
            try:
                return content.decode("cp1252" if _LATIN.fullmatch(charset) else charset), ()
            except UnicodeDecodeError:
                return plain.decode(content, file_name)
    return plain.decode(content, file_name)


def _depth(source: str) -> int:
    """An upper bound of the nesting, in one pass over the tags."""
    deepest = depth = 0
    for match in _TAG.finditer(source):
        closing, tag, attributes = match.groups()
        if attributes.endswith("/") or tag.lower() in _UNPAIRED:
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        deepest = max(deepest, depth)
    return deepest


def _title(page: LexborHTMLParser) -> str | None:
    for selector in ("title", "h1"):
        found = page.css_first(selector)
        if found is not None and (text := one_line(found.text())):
            return text
    return None


def _content(page: LexborHTMLParser) -> LexborNode | None:
    """The main element where there is one, else the body; without what is not text."""
    remove(page.css(_NOT_TEXT))
    remove([node for node in page.css("header") if node.css_first("h1, h2") is None])
    mains = page.css("main, [role=main]")
    return mains[0] if len(mains) == 1 and mains[0].text(strip=True) else page.body


@dataclass(slots=True)
class _List:
    """An open list; `number` counts where it is ordered. `begun`: the open item has its mark already."""

    ordered: bool
    number: int = 0
    begun: bool = True


@dataclass(slots=True)
class _Writer:
    """Walks the tree without recursion (a page may be nested deeper than the interpreter allows)."""

    _blocks: list[tuple[str, bool]] = field(default_factory=list)
    _inline: list[str] = field(default_factory=list)
    _lists: list[_List] = field(default_factory=list)
    _quotes: int = 0
    _level: int = 0

    def write(self, root: LexborNode) -> str:
        node, end = root, root.mem_id
        while True:
            child = node.first_child if self._enter(node) else None
            if child is not None:
                node = child
                continue
            self._leave(node)
            while node.mem_id != end and node.next is None:
                node = _above(node)
                self._leave(node)
            if node.mem_id == end:
                break
            node = _next(node)
        self._flush()
        return joined(self._blocks)

    def _enter(self, node: LexborNode) -> bool:
        """Takes a node up; answers whether to go into it."""
        tag = node.tag or ""
        if node.is_text_node:
            self._inline.append(re.sub(r"\s+", " ", node.text() or ""))
            return False
        if tag == "br":
            self._inline.append("\n")
        elif tag == "img":
            self._inline.append(f" {node.attributes.get('alt') or ''} ")
        elif tag in _BLOCKS:
            self._flush()
            return self._open(node, tag)
        return True

    def _open(self, node: LexborNode, tag: str) -> bool:
        if tag == "pre":
            self._put(fence(node.text()))
            return False
        if tag == "table" and (rows := _rows(node)):
            for caption in node.css("caption"):
                self._put(paragraph(caption.text()))
            self._put(table(rows))
            return False
        if tag in ("ul", "ol"):
            self._lists.append(_List(tag == "ol", _start(node) - 1))
        elif tag == "li" and self._lists:
            self._lists[-1].number += 1
            self._lists[-1].begun = False
        elif tag == "blockquote":
            self._quotes += 1
        self._level = _HEADINGS.get(tag, 0)
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag not in _BLOCKS:
            return
        self._flush()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "blockquote":
            self._quotes -= 1
        elif tag in _HEADINGS:
            self._level = 0

    def _flush(self) -> None:
        """Ends the open block."""
        text = "".join(self._inline)
        self._inline.clear()
        if not text.strip():
            return
        if self._level:
            self._put(heading(self._level, text))
        elif self._lists:
            self._put_item(text)
        else:
            self._put(paragraph(text))

    def _put_item(self, text: str) -> None:
        innermost, depth = self._lists[-1], min(len(self._lists) - 1, 8)
        if innermost.begun:
            self._blocks.append((f"{'   ' * (depth + 1)}{one_line(text)}", True))
            return
        innermost.begun = True
        self._blocks.append((item(text, depth, innermost.number if innermost.ordered else None), True))

    def _put(self, text: str) -> None:
        if not text:
            return
        quoted = "\n".join(f"> {line}" for line in text.split("\n")) if self._quotes else text
        self._blocks.append((quoted, False))


def _above(node: LexborNode) -> LexborNode:
    parent = node.parent
    assert parent is not None, "a node under the root has a parent"
    return parent


def _next(node: LexborNode) -> LexborNode:
    following = node.next
    assert following is not None, "looked at before"
    return following


def _start(node: LexborNode) -> int:
    raw = node.attributes.get("start") or "1"
    return int(raw) if raw.isascii() and raw.isdecimal() and len(raw) < 9 else 1


def _rows(node: LexborNode) -> list[list[str]]:
    """The cells of a table of data; none for one that only lays the page out."""
    if node.css_first("table table, h1, h2, h3, h4, h5, h6, pre") is not None:
        return []
    rows = [[part for cell in row.css("th, td") for part in _cell(cell)] for row in node.css("tr")]
    if max(map(len, rows), default=0) < 2 or any(len(cell) > _MAX_CELL for row in rows for cell in row):
        return []
    return rows


def _cell(cell: LexborNode) -> list[str]:
    """Its text, and an empty cell for each further column that it spans."""
    span = cell.attributes.get("colspan") or "1"
    width = min(int(span), _MAX_SPAN) if span.isascii() and span.isdecimal() and len(span) < 5 else 1
    return [one_line(cell.text(separator=" ")), *[""] * (width - 1)]
