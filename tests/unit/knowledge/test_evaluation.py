"""Measures of a ranking, the reader of Cranfield, and the evaluation from end to end on a collection of four."""

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from app.errors import NotFound
from app.knowledge.evaluation.cranfield import load
from app.knowledge.evaluation.measures import chance, ndcg, recall
from app.knowledge.evaluation.retrieval import WAYS, evaluate

DOCUMENTS = """.I 1
.T
wings in a slipstream .
.A
somebody
.B
a journal
.W
the lift of a wing in a slipstream grows .
.I 2
.T
heat in slabs .
.W
heat moves through a composite slab .
.I 3
.T
nothing .
.W
.I 4
.T
shells under pressure .
.W
a thin shell buckles under pressure .
"""
QUERIES = """.I 001
.W
what is the lift of a wing
in a slipstream .
.I 003
.W
how does heat move through slabs .
.I 005
.W
unjudged
"""
JUDGEMENTS = "1 0 1 1\n1 0 4 4\n1 0 2 5\n1 0 3 2\n3 0 2 -1\n3 0 2 3\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("documents", DOCUMENTS), ("queries", QUERIES), ("qrels", JUDGEMENTS)):
        (tmp_path / f"cranfield_{name}.txt").write_text(text)
    return tmp_path


def test_documents_without_text_and_questions_without_judgements_are_left_out(folder: Path) -> None:
    collection = load(folder)
    assert [page.slug for page in collection.pages] == ["cranfield-1", "cranfield-2", "cranfield-4"]
    assert collection.pages[0].title == "wings in a slipstream"
    assert [question.text for question in collection.questions] == [
        "what is the lift of a wing in a slipstream .",
        "how does heat move through slabs .",
    ]


def test_grades_become_gains_and_what_is_not_relevant_none(folder: Path) -> None:
    first, second = load(folder).questions
    assert first.gains == {"cranfield-1": 4.0, "cranfield-4": 1.0}
    assert second.gains == {"cranfield-2": 2.0}


def test_a_missing_file_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cranfield_documents.txt' is absent: name the folder"):
        load(tmp_path)


def test_ndcg_is_the_published_one() -> None:
    gains = {"a": 4.0, "b": 2.0, "c": 1.0}
    best = 4 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["a", "b", "c"], gains) == pytest.approx(1.0)
    assert ndcg(["b", "x", "a"], gains) == pytest.approx((2 + 4 / 2) / best)
    assert ndcg(["x", "a"], gains, at=1) == 0.0


def test_recall_counts_the_relevant_ones_among_the_first() -> None:
    gains = {"a": 4.0, "b": 2.0}
    assert recall(["x", "a", "b"], gains, at=2) == 0.5
    assert recall([], gains) == 0.0


@given(
    st.permutations("abcdef"), st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([1.0, 2.0, 4.0]), min_size=1)
)
def test_no_order_is_worth_more_than_the_best_one(found: list[str], gains: dict[str, float]) -> None:
    assert 0 <= ndcg(found, gains) <= 1 + 1e-9
    assert ndcg(sorted(gains, key=lambda document: -gains[document]), gains) == pytest.approx(1.0)


def test_chance_is_small_for_a_steady_difference_and_a_half_for_none() -> None:
    assert chance([0.6, 0.7, 0.8, 0.9], [0.5, 0.6, 0.7, 0.8]) == 0.0
    assert 0.35 < chance([0.1, 0.9] * 20, [0.9, 0.1] * 20) < 0.65
    assert chance([0.5, 0.6], [0.6, 0.7]) == 1.0


async def test_the_whole_evaluation_names_every_way_and_finds_what_is_there(folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    await evaluate(folder, console)
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    rows = [line for line in printed.splitlines() if line.count("│") == 8]
    assert [row.split("│")[1].strip() for row in rows] == list(WAYS)
    assert all(float(row.split("│")[3]) > 0 for row in rows)
    assert "3 documents, 2 questions" in printed
