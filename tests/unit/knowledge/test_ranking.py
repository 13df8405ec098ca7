"""Fusion, calibration, order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.knowledge.base import Chunk, Hit
from app.knowledge.ranking import Calibration, fuse, order


def hit(name: str, fused: float, document: str = "") -> Hit:
    return Hit(Chunk(name, document or name, name, name, name, 0, name), fused, (0.0,), 0.0)


def names(hits: list[Hit]) -> list[str]:
    return [found.chunk.id for found in hits]


def test_fusion_is_the_published_sum() -> None:
    scores = fuse([(["a", "b"], 1.0), (["b"], 1.0)], k=60)
    assert scores == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61})


def test_the_heavier_ranking_wins_where_two_disagree() -> None:
    scores = fuse([(["a", "b"], 0.7), (["b", "a"], 0.3)], k=60)
    assert scores == pytest.approx({"a": 0.7 / 61 + 0.3 / 62, "b": 0.7 / 62 + 0.3 / 61})
    assert scores["a"] > scores["b"]


def test_a_ranking_of_no_weight_adds_nothing() -> None:
    assert fuse([(["a"], 0.0), (["b"], 1.0)]) == {"b": 1 / 61}


@given(st.lists(st.lists(st.sampled_from("abcdef"), unique=True), max_size=4))
def test_being_first_everywhere_is_never_beaten(rankings: list[list[str]]) -> None:
    scores = fuse([(["best", *ranking], 0.5) for ranking in rankings])
    assert not rankings or max(scores, key=lambda name: scores[name]) == "best"


@given(st.floats(-1, 1), st.floats(0, 50))
def test_a_score_is_a_chance_and_grows_with_both_signals(cosine: float, lexical: float) -> None:
    calibration = Calibration(cosine=6, lexical=7, intercept=-6, floor=0.6)
    score = calibration.score(cosine, lexical)
    assert 0 <= score <= 1
    assert calibration.score(cosine + 0.1, lexical) >= score
    assert calibration.score(cosine, lexical + 0.1) >= score


def test_order_is_by_fused_score_within_the_limit() -> None:
    assert names(order([hit("a", 0.1), hit("b", 0.3), hit("c", 0.2)], 2, lambda _: False)) == ["b", "c"]


def test_a_foreign_page_goes_behind_but_is_not_lost() -> None:
    hits = [hit("french", 0.3), hit("english", 0.2)]
    assert names(order(hits, 5, lambda found: found.chunk.id == "french")) == ["english", "french"]
    assert names(order(hits, 5, lambda _: True)) == ["french", "english"]


def test_a_second_chunk_of_a_document_yields_to_a_close_other() -> None:
    hits = [hit("a1", 0.30, "a"), hit("a2", 0.29, "a"), hit("b1", 0.26, "b")]
    assert names(order(hits, 3, lambda _: False)) == ["a1", "b1", "a2"]
    assert names(order(hits[:2], 3, lambda _: False)) == ["a1", "a2"]
