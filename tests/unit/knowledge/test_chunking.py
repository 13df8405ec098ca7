"""Markdown to chunks."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.knowledge.chunking import Bounds, chunk_markdown, front_matter
from tests.support.examples import examples

SMALL = Bounds(largest=200, smallest=40, overlap=60)


def texts(source: str, bounds: Bounds = SMALL) -> list[str]:
    return [chunk.text for chunk in chunk_markdown("doc_1", "page", "Page", source, (), bounds)]


def test_front_matter_is_taken_off_and_read() -> None:
    meta, text = front_matter("---\ntitle: Prices\ntags: [a, b]\n---\n# Prices\n")
    assert meta == {"title": "Prices", "tags": ["a", "b"]}
    assert text == "# Prices\n"


@pytest.mark.parametrize("source", ["# Prices\n---\nx: 1\n---\n", "no front matter", "", "---\n"])
def test_a_text_without_front_matter_stays_whole(source: str) -> None:
    assert front_matter(source) == ({}, source)


@pytest.mark.parametrize("inside", ["title: API: access", "[1, 2", "- a\n- b", "just words"])
def test_a_front_matter_that_is_no_mapping_is_refused(inside: str) -> None:
    with pytest.raises(InvalidInput, match="front matter"):
        front_matter(f"---\n{inside}\n---\ntext")


def test_an_empty_front_matter_is_none() -> None:
    assert front_matter("---\n\n---\ntext") == ({}, "text")


def test_headings_become_a_path_that_starts_with_the_title() -> None:
    intro, start = "Intro to all of it, long enough to stand.", "For small kitchens, five to fifty sensors."
    source = f"# Page\n\n{intro}\n\n## Plans\n\n### Start\n\n{start}\n"
    chunks = chunk_markdown("doc_1", "page", "Page", source, (), SMALL)
    assert [chunk.heading for chunk in chunks] == ["Page", "Page > Plans > Start"]
    assert chunks[1].indexed_text == "Page > Plans > Start\nFor small kitchens, five to fifty sensors."


def test_a_sibling_heading_ends_the_one_before() -> None:
    first, second = "First section text that is long enough here.", "Second section text that is long enough."
    source = f"# A\n\n## B\n\n{first}\n\n## C\n\n{second}\n"
    assert [chunk.heading for chunk in chunk_markdown("d", "p", "A", source, (), SMALL)] == ["A > B", "A > C"]


def test_a_hash_in_a_code_block_is_no_heading() -> None:
    assert texts("```\n# not a heading\n```\n") == ["```\n# not a heading\n```"]


def test_a_small_section_joins_the_one_before_and_keeps_its_heading() -> None:
    source = "## One\n\nA section that is long enough to stand alone.\n\n## Two\n\nTiny.\n"
    chunks = chunk_markdown("d", "p", "Page", source, (), SMALL)
    assert [chunk.text for chunk in chunks] == ["A section that is long enough to stand alone.\n\n**Two**\n\nTiny."]


def test_a_short_page_is_one_chunk_without_overlap() -> None:
    assert texts("One sentence. Another one.") == ["One sentence. Another one."]


def test_a_split_section_repeats_the_end_of_the_piece_before() -> None:
    sentences = [f"This is sentence number {n} of a long section." for n in range(12)]
    pieces = texts(" ".join(sentences))
    assert len(pieces) > 2
    for before, piece in pairwise(pieces):
        shared = piece.split("\n\n", 1)[0]
        assert before.endswith(shared)


def test_two_sections_share_nothing() -> None:
    source = "## One\n\n" + "Alpha beta gamma delta. " * 6 + "\n\n## Two\n\n" + "Omega psi chi phi. " * 6
    pieces = texts(source)
    assert all(not ("Alpha" in piece and "Omega" in piece) for piece in pieces)


def test_a_long_table_is_cut_at_rows_under_its_own_head() -> None:
    head = "| plan | price |\n|---|---|"
    rows = "\n".join(f"| plan number {n} | {n} euro |" for n in range(30))
    pieces = texts(f"{head}\n{rows}\n")
    assert len(pieces) > 2
    assert all(piece.startswith(head) for piece in pieces)
    assert re.findall(r"number (\d+) ", " ".join(pieces)) == [str(n) for n in range(30)]


def test_text_without_a_space_is_cut_all_the_same() -> None:
    pieces = texts("あ" * 900, Bounds(largest=200, smallest=40, overlap=0))
    assert "".join(pieces).count("あ") == 900
    assert all(len(piece) <= 240 for piece in pieces)


def test_japanese_is_cut_at_its_full_stops() -> None:
    pieces = texts("これは文です。" * 60, Bounds(largest=200, smallest=40, overlap=0))
    assert all(piece.endswith("。") for piece in pieces)


@pytest.mark.parametrize("source", ["", "   \n\n", "# Only a heading\n", "---\n"])
def test_a_text_without_content_has_no_chunks(source: str) -> None:
    assert texts(source) == []


def test_ids_stay_when_another_section_changes() -> None:
    page = "## One\n\n{}\n\n## Two\n\nThe second section stays as it was, word for word.\n"
    before = chunk_markdown("d", "p", "Page", page.format("The first section, first wording of it."), (), SMALL)
    after = chunk_markdown("d", "p", "Page", page.format("The first section, another wording of it."), (), SMALL)
    assert before[0].id != after[0].id
    assert before[1].id == after[1].id


def test_ids_differ_by_document_heading_tags_and_repetition() -> None:
    def ids(document: str = "d", title: str = "T", tags: tuple[str, ...] = ()) -> list[str]:
        return [c.id for c in chunk_markdown(document, "p", title, "Same text.", tags)]

    assert len({*ids(), *ids(document="e"), *ids(title="U"), *ids(tags=("x",))}) == 4
    section = "## A\n\nThe same words in the same place, twice over, long enough.\n\n"
    twice = chunk_markdown("d", "p", "T", section * 2, (), SMALL)
    assert len({chunk.id for chunk in twice}) == len(twice) == 2


def test_ordinals_count_up() -> None:
    chunks = chunk_markdown("d", "p", "T", "word " * 400, (), SMALL)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))


def test_windows_line_ends_and_form_feeds_change_no_cut() -> None:
    source = "# A\n\nfirst paragraph\x0cwith a form feed\n\n## B\n\nsecond paragraph\n"
    assert texts(source.replace("\n", "\r\n")) == texts(source)
    assert any("second paragraph" in piece for piece in texts(source))


markdown = st.lists(
    st.one_of(
        st.from_regex(r"#{1,4} [a-z]{1,12}", fullmatch=True),
        st.from_regex(r"([a-z]{1,12}[ .]){1,60}", fullmatch=True),
        st.from_regex(r"(- [a-z]{1,20}\n){1,8}", fullmatch=True),
        st.from_regex(r"> [a-z ]{1,40}", fullmatch=True),
        st.from_regex(r"[a-z]{300,500}", fullmatch=True),
        st.sampled_from(["```\ncode here\n```", "| a | b |\n|---|---|\n| c | d |", "---", "<!-- kept -->"]),
    ),
    max_size=12,
).map("\n\n".join)


@settings(max_examples=examples(40), deadline=None)
@given(markdown)
def test_no_word_is_lost_and_no_chunk_is_too_long(source: str) -> None:
    chunks = chunk_markdown("d", "p", "Page", source, (), SMALL)
    together = re.sub(r"\W+", "", "".join(f"{chunk.heading} {chunk.text}" for chunk in chunks))
    body = "\n".join(line for line in source.split("\n") if not line.startswith("#"))
    for word in re.findall(r"\w+", body):
        # A word over the bound is cut: its pieces are there.
        assert all(word[start : start + 150] in together for start in range(0, len(word), 200))
    limit = SMALL.largest + SMALL.smallest + SMALL.overlap + 8
    assert all(len(chunk.text) <= limit for chunk in chunks)
    assert len({chunk.id for chunk in chunks}) == len(chunks)


@given(st.text(max_size=400))
def test_any_text_at_all_gives_chunks_without_an_error(source: str) -> None:
    chunk_markdown("d", "p", "T", source, (), SMALL)
