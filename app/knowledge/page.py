"""What may be put into the knowledge base."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

import orjson

from app.errors import InvalidInput, TooLarge

MAX_CHARACTERS = 1_000_000
MAX_TAGS = 20
MAX_CHUNKS = 10_000
MAX_CHUNK_CHARACTERS = 8_000
MAX_SLUG = 96
BOT_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
MARKDOWN = "text/markdown"
# A document whose chunks its sender cut: its body is a JSON list of their texts.
CHUNKS = "application/vnd.trellis.chunks+json"
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,95}")
_SCOPE = re.compile(BOT_NAME)
# Control characters and line ends: in a title or a tag they serve to break out of a line, in a terminal to steer it.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Rows and vectors of another cut of the same text are not the same: part of the content's hash.
_CUT = "1"


@dataclass(frozen=True, slots=True)
class Page:
    """A Markdown document as it is handed in."""

    slug: str
    title: str
    text: str
    tags: tuple[str, ...]
    media_type: str = MARKDOWN

    @property
    def content_hash(self) -> str:
        """SHA-256 over what the index is made of."""
        kind = () if self.media_type == MARKDOWN else (self.media_type,)
        return _hash(*kind, self.title, self.text, *self.tags)

    def check(self) -> None:
        """Raises InvalidInput or TooLarge, naming what is wrong."""
        if not _SLUG.fullmatch(self.slug):
            raise InvalidInput(f"The slug {self.slug[:80]!r} must be 1 to 96 lower-case letters, digits and hyphens.")
        if not 1 <= len(self.title.strip()) <= 200:
            raise InvalidInput(f"The title of '{self.slug}' must have 1 to 200 characters.")
        if not self.text.strip():
            raise InvalidInput(f"The document '{self.slug}' is empty.")
        if len(self.text) > MAX_CHARACTERS:
            raise TooLarge(
                f"The document '{self.slug}' has {len(self.text):,} characters, at most {MAX_CHARACTERS:,} are kept: "
                "split it."
            )
        if len(self.tags) > MAX_TAGS or any(not 1 <= len(tag) <= 60 for tag in self.tags):
            raise InvalidInput(
                f"The document '{self.slug}' may have at most {MAX_TAGS} tags, of 1 to 60 characters each."
            )
        if any(_STEERING.search(line.strip()) for line in (self.title, *self.tags)):
            raise InvalidInput(f"The title or a tag of '{self.slug}' holds a line break or a control character.")
        if not all(map(_is_text, (self.title, self.text, *self.tags))):
            raise InvalidInput(f"The document '{self.slug}' holds characters that are not text: save it as UTF-8.")


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is handed in; its text is found later.

    Args:
        title: as it was given; without one the file's own title counts, else its name.
        digest: SHA-256 of the content, made once: it takes 50 ms of the largest file.
        media_type: what the content is, already told from its bytes.
        file_name: without a folder.
    """

    slug: str
    title: str | None
    content: bytes
    digest: str
    tags: tuple[str, ...]
    media_type: str
    file_name: str

    @classmethod
    def of(
        cls, slug: str, title: str | None, content: bytes, tags: Sequence[str], media_type: str, file_name: str
    ) -> Self:
        name = _STEERING.sub("", file_name) or "document"
        return cls(slug, title, content, hashlib.sha256(content).hexdigest(), tuple(tags), media_type, name)

    @property
    def content_hash(self) -> str:
        """SHA-256 over what was given: the same file again is known without being read."""
        return _hash("file", self.title or "", self.media_type, self.digest, *self.tags)

    @property
    def kept_title(self) -> str:
        return self.title or title_of(self.file_name)

    def check(self) -> None:
        """Raises InvalidInput, naming what is wrong; what is in the file is looked at by its parser."""
        if not self.content:
            raise InvalidInput(f"The file '{self.file_name[:80]}' is empty.")
        Page(self.slug, self.kept_title, "-", self.tags).check()


def given_chunks(slug: str, title: str, texts: Sequence[str], tags: Sequence[str]) -> Page:
    """A document in the pieces that its sender cut. Raises InvalidInput for none, too many, or one out of bounds."""
    if not 1 <= len(texts) <= MAX_CHUNKS:
        raise InvalidInput(f"A document has 1 to {MAX_CHUNKS:,} chunks, not {len(texts):,}: split it.")
    for number, text in enumerate(texts):
        if not text.strip() or len(text) > MAX_CHUNK_CHARACTERS:
            raise InvalidInput(f"Chunk {number} must have 1 to {MAX_CHUNK_CHARACTERS:,} characters.")
        if not _is_text(text):
            raise InvalidInput(f"Chunk {number} holds characters that are not text: send it as UTF-8.")
    return Page(slug, title, orjson.dumps(list(texts)).decode(), tuple(tags), CHUNKS)


def slug_of(name: str) -> str:
    """A slug made from a name: the same one each time, and another one for a name that had to be bent to fit.

    `guides/Set up.md` becomes `guides-set-up`, a name without a Latin letter `document-` and a hash.
    """
    path = PurePath(name.replace("\\", "/"))
    stem = str(path.with_suffix("")) if path.name else name
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    lost = not slug or any(letter.isalpha() and not letter.isascii() for letter in _without_accents(stem))
    if lost or len(slug) > MAX_SLUG:
        slug = f"{(slug or 'document')[: MAX_SLUG - 9].rstrip('-')}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
    return slug


def title_of(file_name: str) -> str:
    """A title made from a file's name, at most 200 characters."""
    words = re.sub(r"[\s_-]+", " ", PurePath(file_name).stem).strip()
    return (words or "Untitled")[:200]


def _without_accents(text: str) -> str:
    return "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join((_CUT, *parts)).encode()).hexdigest()


def check_scope(tenant_id: str, bot: str) -> None:
    """Raises InvalidInput for a name that no tenant or bot can have."""
    for kind, name in (("tenant", tenant_id), ("bot", bot)):
        if not _SCOPE.fullmatch(name):
            raise InvalidInput(
                f"The {kind} {name[:80]!r} is not a name: use up to 64 letters, digits, '_', '.' and '-'."
            )


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate: broken UTF-8 on its way in
        return False
    return "\0" not in value
