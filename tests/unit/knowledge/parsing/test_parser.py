"""The parser beside its children: what a bad file costs, and that the next one is read."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from app.errors import TooLarge, Unavailable
from app.knowledge.chunking import chunk_markdown
from app.knowledge.page import MAX_CHARACTERS
from app.knowledge.parsing import parser as module
from app.knowledge.parsing.base import Limits, Parsed, Unreadable
from app.knowledge.parsing.parser import Parser
from tests.support import files

pytestmark = pytest.mark.asyncio(loop_scope="module")

OBEYING = "tests.support.parsing_child"
SHORT = Limits(cpu_s=20, wall_s=3.0, characters=1000)
BIG = 20 << 20


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parser() -> AsyncIterator[Parser]:
    made = Parser.open(max_bytes=BIG)
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def obeying() -> AsyncIterator[Parser]:
    made = Parser.open(max_bytes=BIG, limits=SHORT, module=OBEYING)
    yield made
    await made.close()


async def say(parser: Parser, order: str) -> Parsed:
    return await parser.text(order.encode(), "text/plain", "order.txt")


async def refused(parser: Parser, content: bytes, file_name: str, kind: str | None = None) -> str:
    """The sentence; it names the file, and a good file is read afterwards."""
    with pytest.raises(Unreadable) as told:
        await parser.text(content, kind, file_name)
    assert file_name in told.value.detail
    assert "\n" not in told.value.detail
    good = await parser.text(files.REFUND.encode(), "text/plain", "good.txt")
    assert good.text == files.REFUND
    return told.value.detail


async def test_a_file_of_each_kind_is_read(parser: Parser) -> None:
    pages = files.pdf([files.REFUND])
    for name, content in (("a.pdf", pages), ("a.docx", files.word()), ("a.md", f"# T\n\n{files.REFUND}".encode())):
        assert files.REFUND in (await parser.text(content, None, name)).text
    assert "Paid within 30 days" in (await parser.text(files.PAGE.encode(), "text/html", "a.html")).text


async def test_the_child_stays_warm_from_file_to_file(obeying: Parser) -> None:
    assert (await say(obeying, "one")).title == (await say(obeying, "two")).title


async def test_files_wait_for_a_free_child(obeying: Parser) -> None:
    answers = await asyncio.gather(*(say(obeying, f"file {number}") for number in range(8)))
    assert [answer.text for answer in answers] == [f"file {number}" for number in range(8)]
    assert len({answer.title for answer in answers}) == 1


async def test_a_file_that_hangs_is_given_up_and_a_fresh_child_reads_the_next(obeying: Parser) -> None:
    before = (await say(obeying, "before")).title
    with pytest.raises(Unreadable, match=r"'order\.txt' takes too long to read: split it"):
        await say(obeying, "hang")
    assert (await say(obeying, "after")).title != before


async def test_a_file_that_keeps_the_processor_busy_is_ended_by_the_system() -> None:
    parser = Parser.open(max_bytes=BIG, limits=Limits(cpu_s=1, wall_s=60), module=OBEYING)
    with pytest.raises(Unreadable, match="takes too long"):
        await asyncio.wait_for(say(parser, "spin"), 30)
    assert (await say(parser, "after")).text == "after"
    await parser.close()


async def test_a_child_that_is_killed_in_the_middle_costs_its_file_alone(obeying: Parser) -> None:
    answers = await asyncio.gather(*(say(obeying, order) for order in ("a", "crash", "b")), return_exceptions=True)
    assert isinstance(answers[1], Unreadable)
    assert "'order.txt' broke off its reading" in answers[1].detail
    assert [getattr(answers[place], "text", None) for place in (0, 2)] == ["a", "b"]


async def test_a_file_that_eats_memory_is_told_so(obeying: Parser) -> None:
    with pytest.raises(Unreadable, match=r"needs more than 1,024 MB of memory to read: split it"):
        await say(obeying, "hog")
    assert (await say(obeying, "after")).text == "after"


async def test_a_child_that_grew_gives_its_memory_back(obeying: Parser) -> None:
    grown = await say(obeying, "grow")
    assert (await say(obeying, "after")).title != grown.title


async def test_what_a_library_prints_does_not_reach_the_answer(obeying: Parser) -> None:
    assert (await say(obeying, "flood")).text == "quiet"
    assert (await say(obeying, "after")).text == "after"


@pytest.mark.parametrize("order", ["connect", "start_process", "write_file"])
async def test_a_child_reaches_no_network_starts_nothing_and_writes_nothing(obeying: Parser, order: str) -> None:
    with pytest.raises(Unreadable, match="is damaged"):
        await say(obeying, order)


async def test_a_child_sees_no_secret_of_its_parent(obeying: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_MODEL_KEY", "sk-secret")
    assert "TRELLIS" not in (await say(obeying, "environment")).text


async def test_more_text_than_is_kept_is_refused_with_both_figures(obeying: Parser) -> None:
    with pytest.raises(Unreadable, match=r"holds 20,000 characters of text, at most 1,000 are kept: split it"):
        await say(obeying, "endless")


async def test_an_answer_longer_than_any_text_ends_the_child(obeying: Parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BYTES_A_CHARACTER", 0)
    monkeypatch.setattr(module, "_SPARE", 100)
    with pytest.raises(Unreadable, match="broke off"):
        await say(obeying, "x" * 900)


async def test_a_caller_that_goes_away_leaves_no_child_at_work(obeying: Parser) -> None:
    before = (await say(obeying, "before")).title
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(say(obeying, "hang"), 0.2)
    assert (await say(obeying, "after")).title != before


async def test_a_child_that_does_not_start_is_no_fault_of_the_file() -> None:
    parser = Parser.open(max_bytes=BIG, module="tests.support.no_such_module")
    with pytest.raises(Unavailable, match="does not start"):
        await say(parser, "anything")
    await parser.close()


async def test_an_idle_child_ends_and_the_next_file_gets_a_fresh_one(
    obeying: Parser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    before = int((await say(obeying, "before")).title or 0)
    while Path(f"/proc/{before}").exists() if sys.platform == "linux" else obeying._idle:
        await asyncio.sleep(0.02)
    assert int((await say(obeying, "after")).title or 0) != before


async def test_close_ends_the_children() -> None:
    parser = Parser.open(max_bytes=BIG, module=OBEYING)
    child = int((await say(parser, "x")).title or 0)
    await parser.close()
    alive = subprocess.run(["ps", "-p", str(child)], capture_output=True, check=False).returncode == 0
    assert not alive


async def test_a_file_of_200_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    parser = Parser.open(max_bytes=BIG, module="tests.support.no_such_module")
    huge = tmp_path / "huge.txt"
    with huge.open("wb") as file:
        file.truncate(200 << 20)
    with pytest.raises(TooLarge, match=r"'huge\.txt' has 200\.0 MB, at most 20\.0 MB are taken: split it"):
        parser.admit(huge.stat().st_size, huge.name)
    with pytest.raises(TooLarge):
        await parser.text(bytes(BIG + 1), "text/plain", huge.name)  # no child is started for it


async def test_the_parent_loads_no_parser() -> None:
    code = (
        "import sys, app.knowledge.parsing.parser\n"
        "print(sorted({'pypdf', 'docx', 'lxml', 'selectolax', 'charset_normalizer'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize(
    ("make", "file_name", "sentence"),
    [
        (lambda: files.encrypted_pdf("secret", "pw"), "locked.pdf", "protected by a password: save it without one"),
        (lambda: files.pdf([files.REFUND] * 4)[:-400], "cut.pdf", "is cut off"),
        (lambda: files.pdf([files.REFUND])[:500] + b"%%EOF", "cut.pdf", "damaged"),
        (lambda: files.scanned_pdf(), "scan.pdf", "run text recognition"),
        (lambda: files.pdf_of_blank_pages(2001), "long.pdf", "2,001 pages, at most 2,000"),
        (lambda: files.pdf_whose_pages_go_round(), "round.pdf", "damaged"),
        (lambda: files.pdf_bomb(300 << 20), "bomb.pdf", ""),
        (lambda: files.word_bomb(101 << 20), "bomb.docx", "unpacks to more than 100 MB"),
        (lambda: files.lying_word_bomb(90 << 20), "lie.docx", "damaged"),
        (lambda: files.word_of_many_parts(5001), "parts.docx", "5,000 parts"),
        (lambda: files.word()[:-300], "cut.docx", "damaged or cut off"),
        (lambda: files.billion_laughs(), "laughs.docx", "declares XML entities"),
        (lambda: files.external_entity("/etc/hostname"), "reach.docx", "declares XML entities"),
        (lambda: files.external_entity_in_utf16("/etc/hostname"), "wide.docx", "declares XML entities"),
        (lambda: files.word_with_macros(), "macro.docx", "carries macros"),
        (lambda: files.repacked(files.word(), {files.WORD_XML: b"<w:document"}), "broken.docx", "damaged"),
        (lambda: files.word_with_body(""), "blank.docx", "holds no text"),
        (lambda: b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000, "deep.html", "10,000 deep"),
        (lambda: b"<p hidden>unseen</p>", "unseen.html", "holds no text"),
        (lambda: b"", "empty.txt", "is empty"),
        (lambda: b" \r\n\t\n", "blank.txt", "is empty"),
        (lambda: "\u200b\n\ufeff".encode(), "invisible.txt", "holds no text"),
        (lambda: "ok".encode("utf-16")[:-1], "half.txt", "marked as UTF-16 and is not"),
        (lambda: b"%PDF-1.7 renamed", "notes.txt", "is a PDF inside, but was sent as plain text"),
        (lambda: b"plain words", "words.pdf", "is said to be a PDF, but is not one inside"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
async def test_a_bad_file_fails_alone_with_its_reason(
    parser: Parser, make: Callable[[], bytes], file_name: str, sentence: str
) -> None:
    assert sentence in await refused(parser, make(), file_name)


@pytest.mark.parametrize("line", ["word " * 209_715, "x" * 1_000_000, "Ein Satz mit Wörtern. " * 45_000])
async def test_a_line_of_a_megabyte_is_read_and_cut(parser: Parser, line: str) -> None:
    content = line[: MAX_CHARACTERS - 10].encode()
    parsed = await parser.text(content, "text/plain", "line.txt")
    chunks = chunk_markdown("doc_1", "line", "Line", parsed.text)
    assert "".join("".join(chunk.text for chunk in chunks).split())[:100_000] == "".join(line.split())[:100_000]
    assert max(len(chunk.text) for chunk in chunks) < 2000
