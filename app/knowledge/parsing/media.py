"""Which kind of file it is: by its content first, then by what it was declared as and by its name's ending."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from app.errors import UnsupportedMedia
from app.knowledge.parsing.base import Unreadable, named

MARKDOWN, PLAIN, HTML, PDF = "text/markdown", "text/plain", "text/html", "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

ACCEPTED: Mapping[str, tuple[str, ...]] = {
    MARKDOWN: (".md", ".markdown"),
    PLAIN: (".txt", ".text"),
    HTML: (".html", ".htm", ".xhtml"),
    PDF: (".pdf",),
    DOCX: (".docx",),
}
"""Media types that are read, each with the endings of its files."""

_SUFFIXES = {suffix: media for media, suffixes in ACCEPTED.items() for suffix in suffixes}
_ALIASES = {
    "text/x-markdown": MARKDOWN,
    "application/xhtml+xml": HTML,
    "application/x-pdf": PDF,
}
_NO_TYPE = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded"})
_NAMES = {MARKDOWN: "Markdown", PLAIN: "plain text", HTML: "an HTML page", PDF: "a PDF", DOCX: "a Word file (.docx)"}
_OPENING = 1024
# UTF-16 text is full of zero bytes: it is known by its mark.
_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_FOREIGN = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file or one with a password: save it as .docx without one"),
    (b"{\\rtf", "rich text: save it as .docx"),
    (b"\x89PNG", "a picture: upload its text"),
    (b"\xff\xd8\xff", "a picture: upload its text"),
    (b"GIF8", "a picture: upload its text"),
    (b"\x1f\x8b", "a compressed file: unpack it and upload what is inside"),
    (b"7z\xbc\xaf'", "a compressed file: unpack it and upload what is inside"),
    (b"Rar!", "a compressed file: unpack it and upload what is inside"),
)
_HTML_START = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S)
_BYTE_ORDER = b"\xef\xbb\xbf"
_CHOICE = "upload Markdown, plain text, HTML, PDF or .docx"


def media_type_of(content: bytes, declared: str | None, file_name: str | None) -> str:
    """The accepted media type of a file.

    Args:
        content: the whole file; it is looked at, not read.
        declared: the type that came with it; parameters are ignored, `application/octet-stream` says nothing.
        file_name: only its ending counts.

    Raises:
        UnsupportedMedia: a type that is not read.
        Unreadable: an empty file, or one whose content is not what its name or its declared type says.
    """
    name = named(file_name)
    if not content or content.isspace():
        raise Unreadable(f"{name} is empty: upload a file that holds text.")
    found = _by_content(content, name)
    said = _said(declared, file_name, name)
    if found is None:
        said = said or PLAIN
        if said in (PDF, DOCX):
            raise Unreadable(f"{name} is said to be {_NAMES[said]}, but is not one inside: {_advice(said)}.")
        return said
    if said is not None and said != found:
        raise Unreadable(
            f"{name} is {_NAMES[found]} inside, but was sent as {_NAMES[said]}: "
            f"name it {ACCEPTED[found][0]}, declare {found} and upload it again."
        )
    return found


def _by_content(content: bytes, name: str) -> str | None:
    """PDF, DOCX or HTML where the content says so; None for other text. Raises UnsupportedMedia for the rest."""
    opening = content[:_OPENING]
    if b"%PDF-" in opening:
        return PDF
    if opening.startswith(b"PK"):
        if b"word/" in content:
            return DOCX
        raise UnsupportedMedia(f"{name} is an archive, but not a Word file: unpack it and upload what is inside.")
    for magic, what in _FOREIGN:
        if opening.startswith(magic):
            raise UnsupportedMedia(f"{name} is {what}.")
    if b"\0" in content and not opening.startswith(_MARKS):
        raise UnsupportedMedia(f"{name} is not text: {_CHOICE} (text as UTF-8).")
    return HTML if _HTML_START.match(opening.removeprefix(_BYTE_ORDER)) else None


def _said(declared: str | None, file_name: str | None, name: str) -> str | None:
    """What the name's ending says, else the declared type; None where neither says anything."""
    suffix = PurePosixPath((file_name or "").replace("\\", "/")).suffix.lower()
    kind = (declared or "").split(";", 1)[0].strip().lower()
    kind = _ALIASES.get(kind, kind)
    by_name = _SUFFIXES.get(suffix)
    if kind in _NO_TYPE:
        if by_name is None and suffix:
            raise UnsupportedMedia(f"{name} ends in '{suffix[:20]}', which is not read: {_CHOICE}.")
        return by_name
    if kind not in ACCEPTED:
        raise UnsupportedMedia(f"{name} was sent as '{kind[:80]}', which is not read: {_CHOICE}.")
    if by_name is None or by_name == kind:
        return kind
    # Browsers know no Markdown and send it as plain text; every other contradiction is told.
    if kind == PLAIN and by_name == MARKDOWN:
        return by_name
    raise Unreadable(f"{name} was sent as {kind}, but its name says {by_name}: make them agree and upload it again.")


def _advice(said: str) -> str:
    return f"open it in the program that made it and save it as {ACCEPTED[said][0]} again"
