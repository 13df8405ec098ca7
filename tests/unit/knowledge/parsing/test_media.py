"""Which kind of file it is."""

import pytest

from app.errors import UnsupportedMedia
from app.knowledge.parsing.base import Unreadable
from app.knowledge.parsing.media import ACCEPTED, DOCX, HTML, MARKDOWN, PDF, PLAIN, media_type_of

TEXT, PAGE, PAPER, WORD = b"Words.", b"<!-- c -->\n<!DOCTYPE html><p>x", b"%PDF-1.7 x", b"PK\x03\x04 word/document.xml"


@pytest.mark.parametrize(
    ("content", "declared", "file_name", "kind"),
    [
        (TEXT, None, None, PLAIN),
        (TEXT, None, "README", PLAIN),
        (TEXT, "text/plain; charset=utf-8", "notes.md", MARKDOWN),
        (TEXT, "text/x-markdown", "notes.md", MARKDOWN),
        (TEXT, "application/octet-stream", "C:\\docs\\NOTES.MD", MARKDOWN),
        (TEXT, "text/plain", "table.csv", PLAIN),
        (b"<p>a part of a page", "text/html", "part.html", HTML),
        (PAGE, None, None, HTML),
        (b"\xef\xbb\xbf<html>", "application/xhtml+xml", "a.xhtml", HTML),
        (PAPER, "application/octet-stream", "download", PDF),
        (b"junk before\n" + PAPER, "application/pdf", "a.pdf", PDF),
        (WORD, DOCX, "a.docx", DOCX),
        ("text".encode("utf-16"), "text/plain", "a.txt", PLAIN),
    ],
)
def test_the_kind_is_found(content: bytes, declared: str | None, file_name: str | None, kind: str) -> None:
    assert media_type_of(content, declared, file_name) == kind


@pytest.mark.parametrize(
    ("content", "declared", "file_name", "both"),
    [
        (PAPER, "text/plain", "a.txt", ("a PDF", "plain text")),
        (PAPER, None, "a.docx", ("a PDF", "a Word file")),
        (WORD, None, "a.pdf", ("a Word file", "a PDF")),
        (PAGE, None, "a.md", ("an HTML page", "Markdown")),
        (TEXT, None, "a.pdf", ("a PDF", "not one inside")),
        (TEXT, "text/html", "a.md", ("text/html", "text/markdown")),
    ],
)
def test_a_contradiction_names_both_sides(
    content: bytes, declared: str | None, file_name: str, both: tuple[str, str]
) -> None:
    with pytest.raises(Unreadable) as told:
        media_type_of(content, declared, file_name)
    assert all(side in told.value.detail for side in (*both, f"'{file_name}'"))


@pytest.mark.parametrize(
    ("content", "declared", "file_name", "advice"),
    [
        (b"PK\x03\x04 xl/workbook.xml", None, "sheet.xlsx", "unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", None, "old.doc", "save it as .docx"),
        (b"\x89PNG\r\n", "image/png", "a.png", "upload its text"),
        (b"MZ\0\0", None, "a.exe", "is not text"),
        (b"words\0words", "text/plain", "a.txt", "is not text"),
        (TEXT, "application/json", "a.json", "'application/json', which is not read"),
        (TEXT, None, "table.csv", "'.csv', which is not read"),
    ],
)
def test_a_kind_that_is_not_read_says_what_to_upload(
    content: bytes, declared: str | None, file_name: str, advice: str
) -> None:
    with pytest.raises(UnsupportedMedia) as told:
        media_type_of(content, declared, file_name)
    assert advice in told.value.detail


def test_a_name_made_to_deceive_stays_on_one_line() -> None:
    with pytest.raises(Unreadable) as told:
        media_type_of(b"", None, "a\nb\x1b[2J\u202e" + "x" * 300)
    assert "\n" not in told.value.detail
    assert "\u202e" not in told.value.detail
    assert len(told.value.detail) < 200


def test_every_accepted_kind_has_endings_of_its_own() -> None:
    endings = [ending for several in ACCEPTED.values() for ending in several]
    assert len(endings) == len(set(endings))
    assert all(media_type_of(b"x", None, f"a{ending}") for ending in (".md", ".txt", ".html"))
