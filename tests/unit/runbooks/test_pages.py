"""A page is read as it is written, and one that is written otherwise is refused with its line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbooks.pages import SECTIONS, Kind, Language, PageError, parse_page, read_page, stamped
from tests.support.examples import examples
from tests.support.pages import fence, page

ROOT = Path(__file__).parent.parent.parent.parent


def test_a_page_has_its_title_sections_and_last_line():
    found = parse_page(page(Symptoms="It is slow."), "procedures/x")
    assert (found.name, found.title, found.last_drilled) == ("procedures/x", "Title", "never")
    assert tuple(found.sections) == SECTIONS
    assert found.sections["Symptoms"] == "It is slow."
    assert found.blocks == ()


def test_blocks_know_section_step_line_kind_and_why_they_are_not_run():
    steps = f"1. One:\n{fence('sh mutate', 'trellis a', '   ')}\n2. Two:\n" + fence(
        'sql rollback not-run="no database, nowhere"', "SELECT 1;", "   "
    )
    found = parse_page(page(Verify=fence("promql verify", "up == 0"), Mitigate=steps), "a/b")
    told = [(b.section, b.step, b.language, b.kind, b.body, b.not_run) for b in found.blocks]
    assert told == [
        ("Verify", 0, Language.PROMQL, Kind.VERIFY, "up == 0", ""),
        ("Mitigate", 1, Language.SH, Kind.MUTATE, "trellis a", ""),
        ("Mitigate", 2, Language.SQL, Kind.ROLLBACK, "SELECT 1;", "no database, nowhere"),
    ]
    text = page(Verify=fence("promql verify", "up == 0"), Mitigate=steps).splitlines()
    assert [text[block.line - 1].strip()[:6] for block in found.blocks] == ["```pro", "```sh ", "```sql"]
    assert found.of("Mitigate") == found.blocks[1:]


@pytest.mark.parametrize(
    ("sentence", "output", "holds"),
    [
        ("Returns nothing: it is well.", "", True),
        ("Returns nothing: it is well.", '{job="api"} 1', False),
        ("Prints `active` and `previous`, each with more.", "active x\nprevious y", True),
        ("Prints `active` and `previous`, each with more.", "active x", False),
        ("Returns `0` or `1`.", '{job="api"} 1', True),
        ("Returns `0` or `1`.", '{job="api"} 10', False),
        ("Returns `1`.", "1.5", False),
        ("Returns the routes that fail.", "", False),
        ("Returns the routes that fail. Not `this`.", "route 3", True),
        ("Above 0: it works.", "", True),
    ],
)
def test_an_answer_is_held_to_what_the_page_says_of_it(sentence: str, output: str, holds: bool):
    found = parse_page(page(Verify=f"{fence('promql verify', 'up')}\n{sentence}"), "a/b")
    assert found.blocks[0].answered_by(output) is holds


def test_a_sentence_may_go_on_in_the_next_line_but_not_past_an_empty_one():
    block = fence("sh verify", "true")
    told = parse_page(page(Verify=f"{block}\nPrints `a`\nand `b`.\n\nPrints `c`."), "a/b").blocks[0]
    assert told.answered_by("a b")
    assert not told.answered_by("a")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no title", "begins with `# `"),
        (page().replace("Last drilled: never", "The end."), "last line"),
        (page().replace("## Escalate", "## Ask"), "in this order"),
        (page(Escalate=""), "nothing stands under Escalate"),
        (page(Verify="```sh\ntrue\n```"), r"b.md:\d+: a block opens with"),
        (page(Verify=fence("sh try", "true")), "its kind"),
        (page(Verify=fence("yaml verify", "a: 1")), "its language"),
        (page(Verify=fence("sh mutate", "true")), "can only be of kind verify"),
        (page(Mitigate=fence("promql mutate", "up")), "can only be of kind verify"),
        (page(Mitigate=fence('sh mutate not-run=""', "true")), "not-run"),
        (page(Mitigate=fence("sh mutate", "  ")), "empty"),
        (page(Escalate="```sh verify\ntrue"), "never closed"),
    ],
)
def test_a_page_that_is_not_written_as_pages_are_is_refused(text: str, reason: str):
    with pytest.raises(PageError, match=reason):
        parse_page(text, "a/b")


def test_only_the_last_line_of_a_page_is_stamped():
    text = page(Symptoms="Last drilled: long ago.")
    found = stamped(text, "2026-11-22, nothing lost")
    assert found == text.replace("Last drilled: never", "Last drilled: 2026-11-22, nothing lost")
    assert parse_page(found, "a/b").last_drilled == "2026-11-22, nothing lost"
    with pytest.raises(PageError):
        stamped("# no line\n", "never")


LINE = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=30).filter(
    lambda line: not line.lstrip().startswith("```")
)


@settings(max_examples=examples(60))
@given(
    body=st.lists(LINE, min_size=1, max_size=6).filter(lambda lines: any(line.strip() for line in lines)),
    indent=st.sampled_from(["", "   "]),
    why=st.text("abc d,.", max_size=12),
)
def test_whatever_a_block_holds_comes_out_as_it_was_written(body: Sequence[str], indent: str, why: str):
    opening = f'sh mutate not-run="{why}"' if why else "sh mutate"
    found = parse_page(page(Mitigate=f"1. Do:\n{fence(opening, chr(10).join(body), indent)}"), "a/b")
    (block,) = found.blocks
    assert (block.body, block.not_run, block.step) == ("\n".join(body), why, 1)


@pytest.mark.parametrize("path", sorted((ROOT / "runbooks" / "procedures").glob("*.md")), ids=lambda path: path.stem)
def test_every_procedure_is_read_and_has_something_to_do_and_to_see(path: Path):
    found = read_page(path)
    assert [block for block in found.of("Verify recovery") if not block.not_run or block.kind is Kind.VERIFY]
    assert [block for block in found.blocks if block.kind is not Kind.VERIFY]
