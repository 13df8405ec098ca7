"""Names of documents, and what is known of a file before it is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput, TooLarge
from app.knowledge.page import CHUNKS, File, Page, given_chunks, slug_of, title_of


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Price list.md", "price-list"),
        ("guides/Set up.md", "guides-set-up"),
        ("guides\\Set up.md", "guides-set-up"),
        ("Überblick.md", "uberblick"),
        ("a.b.c.txt", "a-b-c"),
    ],
)
def test_a_slug_is_made_from_a_name(name: str, slug: str) -> None:
    assert slug_of(name) == slug


def test_names_that_cannot_be_spelt_stay_apart() -> None:
    assert slug_of("價格.md").startswith("document-")
    assert slug_of("價格.md") != slug_of("運費.md")
    assert slug_of("価格 2024.md") != slug_of("運費 2024.md")
    assert slug_of(f"{'x' * 200}a.md") != slug_of(f"{'x' * 200}b.md")


@given(st.text(max_size=300))
def test_any_name_has_a_slug_that_is_taken(name: str) -> None:
    Page(slug_of(name), "title", "text", ()).check()
    assert slug_of(name) == slug_of(name)


@given(st.text(max_size=300))
def test_any_name_has_a_title_within_bounds(name: str) -> None:
    assert 1 <= len(title_of(name)) <= 200


def test_a_file_is_known_by_all_that_its_index_is_made_of() -> None:
    def of(**changed: object) -> str:
        about = {"slug": "a", "title": None, "content": b"x", "tags": (), "media_type": "text/plain", "file_name": "a"}
        return File.of(**(about | changed)).content_hash  # type: ignore[arg-type]

    assert of() == of(file_name="b")
    others = [of(title="t"), of(content=b"y"), of(tags=("t",)), of(media_type="text/html")]
    assert len({of(), *others}) == 5


def test_chunks_that_are_given_are_bounded() -> None:
    assert given_chunks("a", "A", ["one", "two"], []).media_type == CHUNKS
    for texts, said in (
        ([], "1 to 10,000"),
        (["x"] * 10_001, "10,001"),
        (["a", " "], "Chunk 1"),
        (["a\0"], "not text"),
    ):
        with pytest.raises(InvalidInput, match=said):
            given_chunks("a", "A", texts, [])
    with pytest.raises(InvalidInput, match="Chunk 0"):
        given_chunks("a", "A", ["x" * 8_001], [])
    with pytest.raises(TooLarge):
        given_chunks("a", "A", ["x" * 8_000] * 130, []).check()


@pytest.mark.parametrize("line", ["Pri\nces", "\x1b]0;owned\x07", "a\x9b2Jb", "a\u2028b", "a\0b"])
def test_what_is_shown_as_one_line_holds_nothing_that_breaks_or_steers_it(line: str) -> None:
    for page in (Page("prices", line, "text", ()), Page("prices", "Prices", "text", (line,))):
        with pytest.raises(InvalidInput, match="control character"):
            page.check()
    file = File.of("prices", "Prices", b"text", (), "text/plain", f"{line}.txt")
    file.check()
    assert file.file_name.isprintable()
    assert File.of("prices", None, b"text", (), "text/plain", "\x1b\n").file_name == "document"


def test_a_title_in_any_script_is_taken() -> None:
    for title in ("Prix\u00a0: 5\u00a0€", "価格", "\u202bמחירים\u202c", "a\u200db", "Prices\n"):
        Page("prices", title, "text", ()).check()
