"""Markdown and plain text: which encoding, and what was mixed into it."""

import codecs
import re

from charset_normalizer import from_bytes

from app.errors import InvalidInput
from app.knowledge.chunking import front_matter
from app.knowledge.parsing.base import Parsed, Unreadable, named
from app.knowledge.parsing.markdown import keep_references, one_line

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_STRAY = re.compile("[\udc80-\udcff]")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_WINDOWS = {0xDC00 + byte: bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in range(0x80, 0x100)}
# Letters and signs of the languages that Windows-1252 is used for. The detector takes short texts of theirs for
# Turkish on a Mac or an IBM mainframe, so they are tried first.
_WESTERN = re.compile("[äöüßÄÖÜàâáåãæçèéêëìíîïñòóôõøœùúûýÿÀÂÁÅÃÆÇÈÉÊËÌÍÎÏÑÒÓÔÕØŒÙÚÛÝ¿¡“”„‘’‚–—…•€£§°º«»·™®©½²´\xa0]*")
_FIRST_HEADING = re.compile(r"\A\s*#[ \t]+(.+?)[ \t#]*$", re.M)
_SHOWN_LINES = 5


def read_plain(content: bytes, file_name: str | None) -> Parsed:
    """Plain text as it is. Raises Unreadable."""
    text, warnings = decode(content, file_name)
    return Parsed(None, keep_references(text), warnings)


def read_markdown(content: bytes, file_name: str | None) -> Parsed:
    """Markdown without its front matter; the title is the one given there, or the heading that it begins with."""
    source, warnings = decode(content, file_name)
    try:
        meta, text = front_matter(source)
    except InvalidInput as error:
        meta, text, warnings = {}, source, (*warnings, f"{error.detail} It was kept as text.")
    title, first = meta.get("title"), _FIRST_HEADING.match(text)
    if not isinstance(title, str) or not title.strip():
        title = first[1] if first else None
    return Parsed(one_line(title) if title else None, text, warnings)


def decode(content: bytes, file_name: str | None) -> tuple[str, tuple[str, ...]]:
    """Text by its byte order mark, as UTF-8, as UTF-8 with stray bytes, or in the likeliest older encoding.

    A guess comes with a warning. Raises Unreadable where there is none.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return _strict(content, encoding, file_name), ()
    try:
        return content.decode(), ()
    except UnicodeDecodeError:
        return _repaired(content) or _older(content, file_name)


def _strict(content: bytes, encoding: str, file_name: str | None) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        said = encoding.removesuffix("-sig").upper()
        raise Unreadable(
            f"{named(file_name)} is marked as {said} and is not: save it as UTF-8 and upload it again."
        ) from None


def _repaired(content: bytes) -> tuple[str, tuple[str, ...]] | None:
    """UTF-8 with bytes of another encoding among it; None where it is rather the other encoding throughout.

    In a text of an older encoding, valid UTF-8 comes about by chance: for up to a letter in three (Korean), hardly
    for whole lines.
    """
    lines = content.decode(errors="surrogateescape").split("\n")
    foreign = [line for line in lines if _BEYOND_ASCII.search(line)]
    whole = [line for line in foreign if not _STRAY.search(line)]
    stray = sum(len(_STRAY.findall(line)) for line in foreign)
    valid = sum(len(_BEYOND_ASCII.findall(line)) for line in foreign) - stray
    if valid < stray and len(whole) * 4 < len(foreign):
        return None
    broken = [str(number) for number, line in enumerate(lines, 1) if _STRAY.search(line)]
    shown = ", ".join(broken[:_SHOWN_LINES]) + (", ..." if len(broken) > _SHOWN_LINES else "")
    where = f"Line {shown} holds" if len(broken) == 1 else f"Lines {shown} hold"
    text = "\n".join(lines).translate(_WINDOWS)
    return text, (f"{where} characters that are not UTF-8; they were read as Windows-1252.",)


def _older(content: bytes, file_name: str | None) -> tuple[str, tuple[str, ...]]:
    guessed = _western(content)
    if guessed is not None:
        return guessed, ("The text is not UTF-8; it was read as Windows-1252.",)
    best = from_bytes(content).best()
    if best is None:
        raise Unreadable(f"{named(file_name)} is in an unknown encoding: save it as UTF-8 and upload it again.")
    return str(best), (f"The text is not UTF-8; it was read as {best.encoding}, the likeliest encoding.",)


def _western(content: bytes) -> str | None:
    """The text as Windows-1252 where it then looks like a western language: few accents, all of them its own."""
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return None
    accents = "".join(_BEYOND_ASCII.findall(text))
    letters = sum(map(str.isalpha, text))
    return text if len(accents) * 4 <= max(letters, 4) and _WESTERN.fullmatch(accents) else None
