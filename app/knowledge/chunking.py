"""Markdown to chunks: sections by heading, packed within size bounds, with ids that survive re-ingestion."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.errors import InvalidInput
from app.knowledge.base import Chunk

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n")
_JOIN = "\n\n"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Sizes in characters.

    `overlap` is what a piece repeats of the one before it, only where one section had to be split.
    """

    largest: int = 1200
    smallest: int = 120
    overlap: int = 120


@dataclass(frozen=True, slots=True)
class Section:
    """The blocks under one heading; `path` holds the headings above, the outermost first."""

    path: tuple[str, ...]
    blocks: tuple[str, ...]


def front_matter(source: str) -> tuple[dict[str, Any], str]:
    """The YAML between the leading `---` lines, and the text after it; an empty mapping where there is none.

    Raises InvalidInput for a front matter that is not a YAML mapping.
    """
    match = _FRONT_MATTER.match(source)
    if match is None:
        return {}, source
    try:
        meta = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" (line {place.line + 2})" if place else ""
        raise InvalidInput(f"The front matter is not valid YAML{where}: quote a value that holds ': '.") from error
    if meta is None:
        return {}, source[match.end() :]
    if not isinstance(meta, dict):
        raise InvalidInput("The front matter must be 'key: value' lines between two lines of '---'.")
    return {str(key): value for key, value in meta.items()}, source[match.end() :]


def chunk_markdown(
    document_id: str,
    slug: str,
    title: str,
    text: str,
    tags: Sequence[str] = (),
    bounds: Bounds | None = None,
    generation: str = "",
) -> list[Chunk]:
    """Chunks of `text` (front matter already taken off) in reading order; none for a text without content.

    The same piece has another id in each `generation` of the index. Every word of the text is in some chunk's text
    or heading, but for a heading with nothing under it. A piece is longer than `bounds.largest` only by its overlap,
    a repeated table head or a short rest.
    """
    bounds = bounds or Bounds()
    sections = _merge_small(_sections(text), bounds)
    headed = ((" > ".join(_path(title, section.path)), section) for section in sections)
    pieces = ((heading, piece) for heading, section in headed for piece in _pieces(section.blocks, bounds))
    return _numbered(pieces, document_id, slug, title, tags, generation)


def chunk_given(
    document_id: str, slug: str, title: str, texts: Sequence[str], tags: Sequence[str] = (), generation: str = ""
) -> list[Chunk]:
    """The pieces that whoever sent the document cut, as they are; their heading is the title."""
    return _numbered(((title, text) for text in texts), document_id, slug, title, tags, generation)


def _numbered(
    pieces: Iterable[tuple[str, str]], document_id: str, slug: str, title: str, tags: Sequence[str], generation: str
) -> list[Chunk]:
    """Chunks of (heading, text), each with its id: a piece that comes twice has two."""
    chunks: list[Chunk] = []
    seen: dict[str, int] = {}
    salt = (generation,) if generation else ()
    for heading, piece in pieces:
        key = "\0".join((*salt, document_id, title, heading, piece, *tags))
        seen[key] = seen.get(key, 0) + 1
        digest = hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()[:32]
        chunks.append(Chunk(f"chk_{digest}", document_id, slug, title, heading, len(chunks), piece, tuple(tags)))
    return chunks


def _path(title: str, path: tuple[str, ...]) -> tuple[str, ...]:
    return path if path and path[0].casefold() == title.casefold() else (title, *path)


def _sections(text: str) -> list[Section]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")  # as the parser counts them; splitlines() would also cut at form feeds and U+2028
    sections: list[Section] = []
    path: list[tuple[int, str]] = []
    blocks: list[str] = []
    for token, inline in _top_level(text):
        if token.type == "heading_open":
            _close(sections, path, blocks)
            level = int(token.tag[1:])
            path = [entry for entry in path if entry[0] < level] + [(level, inline)]
        elif token.map is not None and token.type != "hr":
            block = "\n".join(lines[token.map[0] : token.map[1]]).strip("\n").rstrip()
            if block.strip():
                blocks.append(block)
    _close(sections, path, blocks)
    return sections


def _top_level(text: str) -> Iterator[tuple[Token, str]]:
    """Block tokens of the outermost level, each with the inline text that follows it."""
    # Emphasis and links inside a block decide nothing here, and cost most of the time: 5 s for a line of 600,000 stars.
    tokens = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"]).parse(text)
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting >= 0:
            following = tokens[index + 1] if index + 1 < len(tokens) else token
            yield token, " ".join(following.content.split())


def _close(sections: list[Section], path: list[tuple[int, str]], blocks: list[str]) -> None:
    if blocks:
        sections.append(Section(tuple(name for _, name in path if name), tuple(blocks)))
        blocks.clear()


def _merge_small(sections: list[Section], bounds: Bounds) -> list[Section]:
    """A section under the smallest size joins its neighbour under the same parent, its heading kept as a line."""
    merged: list[Section] = []
    for section in sections:
        before = merged[-1] if merged else None
        if before and _length(section) < bounds.smallest and _related(before, section):
            extra = _length(section) + len(section.path[-1] if section.path else "") + 8
            if _length(before) + extra <= bounds.largest:
                lead = (f"**{section.path[-1]}**",) if section.path and section.path != before.path else ()
                merged[-1] = Section(before.path, before.blocks + lead + section.blocks)
                continue
        merged.append(section)
    return merged


def _related(before: Section, section: Section) -> bool:
    return section.path[:-1] in (before.path[:-1], before.path)


def _length(section: Section) -> int:
    return sum(len(block) for block in section.blocks) + len(_JOIN) * (len(section.blocks) - 1)


def _pieces(blocks: Sequence[str], bounds: Bounds) -> list[str]:
    """Blocks packed into pieces; a piece of a split section begins with the end of the one before."""
    pieces = _pack((part for block in blocks for part in _split(block, bounds)), bounds.largest)
    if len(pieces) > 1 and len(pieces[-1]) < bounds.smallest:
        rest = pieces.pop()
        pieces[-1] = f"{pieces[-1]}{_JOIN}{rest}"
    return pieces[:1] + [_lead_in(before, bounds) + piece for before, piece in pairwise(pieces)]


def _lead_in(before: str, bounds: Bounds) -> str:
    """Whole sentences from the end of the piece before, as far as the overlap allows; none out of a table."""
    last_block = before.rsplit(_JOIN, 1)[-1]
    if last_block.lstrip().startswith(("|", "```", "~~~")):
        return ""
    taken: list[str] = []
    for sentence in reversed(_sentences(last_block)):
        if sum(map(len, taken)) + len(sentence) > bounds.overlap:
            break
        taken.insert(0, sentence)
    return f"{' '.join(taken)}{_JOIN}" if taken else ""


def _pack(parts: Iterable[str], largest: int, join: str = _JOIN) -> list[str]:
    packed: list[str] = []
    for part in parts:
        if packed and len(packed[-1]) + len(join) + len(part) <= largest:
            packed[-1] = f"{packed[-1]}{join}{part}"
        else:
            packed.append(part)
    return packed


def _split(block: str, bounds: Bounds) -> list[str]:
    """A block within the bound stays whole; a longer one parts at rows, items, lines or sentences."""
    if len(block) <= bounds.largest:
        return [block]
    lines = block.splitlines()
    if block.lstrip().startswith("|") and len(lines) > 2:
        head = "\n".join(lines[:2])
        room = max(bounds.largest - len(head) - 1, bounds.smallest)
        return [f"{head}\n{rows}" for rows in _pack(_cut(lines[2:], room), room, "\n")]
    if len(lines) > 1:
        return _pack(_cut(lines, bounds.largest), bounds.largest, "\n")
    return _pack(_cut(_sentences(block), bounds.largest), bounds.largest, " ")


def _sentences(text: str) -> list[str]:
    return [sentence.strip() for sentence in _SENTENCE_END.split(text) if sentence.strip()]


def _cut(parts: Iterable[str], largest: int) -> Iterator[str]:
    """Parts that are still too long fall into sentences, then words, then characters."""
    for part in parts:
        if len(part) <= largest:
            yield part
            continue
        sentences = _sentences(part)
        words = sentences if len(sentences) > 1 else part.split()
        if len(words) > 1:
            yield from _pack(_cut(words, largest), largest, " ")
        else:
            yield from (part[start : start + largest] for start in range(0, len(part), largest))
