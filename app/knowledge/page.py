"""What may be put into the knowledge base."""

import hashlib
import re
from dataclasses import dataclass

from app.errors import InvalidInput, TooLarge

MAX_CHARACTERS = 1_000_000
MAX_TAGS = 20
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,95}")
_SCOPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Rows and vectors of another cut of the same text are not the same: part of the content's hash.
_CUT = "1"


@dataclass(frozen=True, slots=True)
class Page:
    """A Markdown document as it is handed in."""

    slug: str
    title: str
    text: str
    tags: tuple[str, ...]

    @property
    def content_hash(self) -> str:
        """SHA-256 over what the index is made of."""
        return hashlib.sha256("\0".join((_CUT, self.title, self.text, *self.tags)).encode()).hexdigest()

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
        if not all(map(_is_text, (self.title, self.text, *self.tags))):
            raise InvalidInput(f"The document '{self.slug}' holds characters that are not text: save it as UTF-8.")


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
