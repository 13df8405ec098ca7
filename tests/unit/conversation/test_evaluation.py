"""`trellis eval cache` on a handful of questions: what is a hit, what is a wrong one, and the picture of it."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from app.conversation.evaluation import cache
from app.conversation.evaluation.banking import FILES, Asked, load
from app.conversation.evaluation.chart import Curve, chart
from app.conversation.evaluation.streams import Outcome, Stream
from app.conversation.sameness import Sameness
from app.conversation.semantic import DEFAULT_SEMANTIC_THRESHOLD, SemanticAnswers
from app.errors import InvalidInput, NotFound
from app.knowledge.base import Vectors
from app.knowledge.embedders import WordLlamaEmbedder
from app.knowledge.language import LanguageGuess
from tests.support.vectors import ReferenceVectors, embed_words

QUESTIONS = [
    Asked(0, "what is the price of a sensor", "price"),
    Asked(1, "what is the price of the sensor", "price"),
    Asked(2, "how is a refund paid to my account", "refund"),
    Asked(3, "how is a refund paid to the account", "status"),
    Asked(4, "what is the price of a sensor in 2030", "price"),
    Asked(5, "What is the price of a sensor?!", "cost"),
    Asked(6, "where is the office", "place"),
]


def vectors(questions: list[Asked]) -> Vectors:
    return np.array([embed_words(question.text) for question in questions])


def cosine(_one: str, _other: str, likeness: float) -> float:
    return likeness


def test_a_cache_that_is_filled_by_misses_answers_from_what_was_asked_before() -> None:
    outcome = Stream(QUESTIONS, vectors(QUESTIONS), cosine).replay(0.8)
    assert outcome.hits.tolist() == [False, True, False, True, False, True, False]
    assert outcome.sources.tolist() == [-1, 0, -1, 2, -1, 0, -1]
    assert outcome.wrong.tolist() == [False, False, False, True, False, False, False]
    assert outcome.disputed.tolist() == [False, False, False, False, False, True, False]
    assert (outcome.hit_rate, outcome.false_of_hits, outcome.false_of_all) == (3 / 7, 1 / 3, 1 / 7)


def test_what_was_answered_from_the_cache_is_not_in_it() -> None:
    """The second question hits, so the third, near to that one alone, finds nothing."""
    turned = np.array([[np.cos(angle), np.sin(angle)] for angle in (0.0, 0.5, 1.0)], np.float32)
    assert Stream(QUESTIONS[:3], turned, cosine).replay(0.8).sources.tolist() == [-1, 0, -1]
    assert Stream(QUESTIONS[:3], turned, cosine).replay(0.9).sources.tolist() == [-1, -1, -1]


def test_a_prefilled_cache_answers_from_its_list_and_never_a_question_by_itself() -> None:
    kept = QUESTIONS[:3]
    outcome = Stream(QUESTIONS[3:], vectors(QUESTIONS[3:]), cosine, (kept, vectors(kept))).replay(0.8)
    assert outcome.sources.tolist() == [2, -1, 0, -1]
    itself = Stream(kept, vectors(kept), cosine, (kept, vectors(kept)))
    assert itself.replay(0.8).sources.tolist() == [1, 0, -1]
    assert Stream(kept, vectors(kept), cosine).mistakes(0.8) == []
    mistakes = Stream(QUESTIONS, vectors(QUESTIONS), cosine).mistakes(0.8)
    assert [(one.row, other.row) for one, other in mistakes] == [(3, 2)]


def test_an_interval_holds_the_rate_and_narrows_with_more_questions() -> None:
    def of(times: int) -> tuple[float, float]:
        hits = np.array([True, True, False, False] * times)
        wrong = np.array([True, False, False, False] * times)
        outcome = Outcome(hits, wrong, np.zeros_like(hits), np.zeros(len(hits), np.int64))
        return outcome.interval()[1]

    few, many = of(25), of(400)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


async def test_the_replay_is_what_the_cache_does() -> None:
    """The same hits as the cache itself gives, over a real embedder."""
    embedder, sameness = WordLlamaEmbedder(), Sameness.load(LanguageGuess.load())
    semantic = SemanticAnswers(ReferenceVectors(), embedder, sameness)
    texts = [question.text for question in QUESTIONS]
    replayed = Stream(QUESTIONS, await embedder.embed(texts), sameness.score).replay(0.9)
    found = []
    for question in QUESTIONS:
        hit = await semantic.nearest("t", "b", "ground", question.text, 0.9)
        found.append(int(hit[0]) if hit else -1)
        if hit is None:
            await semantic.put("t", "b", "ground", question.text, str(question.row), "asker")
    await embedder.close()
    assert found == replayed.sources.tolist()
    assert any(row >= 0 for row in found)


def written(folder: Path) -> Path:
    for name in FILES:
        rows = "\n".join(f'"{question.text}",{question.intent}' for question in QUESTIONS)
        (folder / name).write_text(f"text,category\n{rows}\n")
    return folder


async def test_the_command_prints_its_tables_and_draws(tmp_path: Path) -> None:
    out, plot = io.StringIO(), tmp_path / "plot.svg"
    await cache.evaluate(written(tmp_path), Console(file=out, width=160), plot)
    said = out.getvalue()
    assert f"Default {DEFAULT_SEMANTIC_THRESHOLD:g}" in said
    assert "Cache pre-filled" in said
    assert "Cache filling" in said
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


async def test_absent_or_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"banking77_train\.csv"):
        await cache.evaluate(tmp_path, Console(file=io.StringIO()))
    (tmp_path / FILES[0]).write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="text, category"):
        load(tmp_path / FILES[0])


def test_the_default_stands_among_the_thresholds_and_a_turn_has_a_price() -> None:
    assert DEFAULT_SEMANTIC_THRESHOLD in cache.THRESHOLDS
    assert sorted(cache.THRESHOLDS) == list(cache.THRESHOLDS)
    assert cache.dollars_a_turn() > 0


def test_the_picture_holds_each_curve_the_limit_and_the_default() -> None:
    curves = [Curve("a & b", [0.4, 0.1], [0.05, 0.0]), Curve("c", [0.2, 0.0], [0.02, 0.01])]
    drawn = chart([0.5, 0.99], curves, default=0.9, limit=0.01, dollars=0.345)
    lines = [node for node in ElementTree.fromstring(drawn).iter() if node.tag.endswith("polyline")]
    assert len(lines) == 4
    assert "a &amp; b" in drawn
    assert "default: 0.9" in drawn
    assert "1 %" in drawn
    assert "0.138" in drawn
