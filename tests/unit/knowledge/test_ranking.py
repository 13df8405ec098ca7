"""Fusion, calibration, order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.knowledge.base import Chunk, Hit
from app.knowledge.ranking import Calibration, Ranking, fuse, fuse_hybrid, order

NORTH, EAST = (1.0, 0.0), (0.0, 1.0)
scores = st.dictionaries(st.sampled_from("abcdef"), st.floats(-1, 1))


def hit(name: str, fused: float, document: str = "", vector: tuple[float, float] = NORTH) -> Hit:
    chunk = Chunk(name, document or name, name, name, name, 0, name)
    return Hit(chunk, fused, (0.0,), 0.0, np.array(vector, np.float32))


def names(hits: list[Hit]) -> list[str]:
    return [found.chunk.id for found in hits]


def test_fusion_is_the_published_sum() -> None:
    nearest, words = {"a": 0.5, "b": 0.2}, {"b": 8.0, "c": 2.0}
    assert fuse_hybrid(nearest, words, 0.7, 10) == pytest.approx(
        {"a": 0.7, "b": 0.7 * 1.2 / 1.5 + 0.3, "c": 0.3 * 2.0 / 8.0}
    )


def test_the_way_that_knows_decides_where_the_other_guesses() -> None:
    guessed = {"a": 0.50, "b": 0.49}
    assert fuse_hybrid(guessed, {"b": 9.0, "a": 1.0}, 0.7, 10)["b"] > fuse_hybrid(guessed, {"b": 9.0}, 0.7, 10)["a"]


def test_what_a_full_list_left_out_stands_at_its_last_place() -> None:
    found = {"a": 1.0, "b": 0.5}
    whole = fuse([Ranking(found, 0.5, 0.0), Ranking({"c": 1.0}, 0.5, 0.0)])
    cut = fuse([Ranking(found, 0.5, 0.0, cut=True), Ranking({"c": 1.0}, 0.5, 0.0)])
    assert (whole["c"], cut["c"]) == pytest.approx((0.5, 0.75))
    assert (whole["a"], cut["a"]) == pytest.approx((0.5, 0.5))


def test_a_ranking_of_no_weight_adds_nothing() -> None:
    assert fuse([Ranking({"a": 1.0}, 0.0, 0.0), Ranking({"b": 3.0}, 1.0, 0.0)]) == {"b": 1.0}


def test_a_ranking_of_nothing_but_the_lowest_score_adds_nothing() -> None:
    assert fuse([Ranking({"a": -1.0}, 0.7, -1.0), Ranking({"b": 3.0}, 0.3, 0.0)]) == pytest.approx({"a": 0.0, "b": 0.3})


@given(scores, scores, st.floats(0, 1), st.booleans())
def test_fused_scores_are_shares_and_the_best_in_both_is_never_beaten(
    one: dict[str, float], other: dict[str, float], weight: float, cut: bool
) -> None:
    rankings = [
        Ranking({**one, "best": 1.0}, weight, -1.0, cut),
        Ranking({name: 1 + score for name, score in other.items()} | {"best": 2.0}, 1 - weight, 0.0, cut),
    ]
    fused = fuse(rankings)
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in fused.values())
    assert fused["best"] >= max(fused.values()) - 1e-9


@given(st.floats(-1, 1), st.floats(0, 50))
def test_a_score_is_a_chance_and_grows_with_both_signals(cosine: float, lexical: float) -> None:
    calibration = Calibration(cosine=6, lexical=7, intercept=-6, floor=0.6)
    score = calibration.score(cosine, lexical)
    assert 0 <= score <= 1
    assert calibration.score(cosine + 0.1, lexical) >= score
    assert calibration.score(cosine, lexical + 0.1) >= score


def test_order_is_by_fused_score_within_the_limit() -> None:
    assert names(order([hit("a", 0.1), hit("b", 0.3), hit("c", 0.2)], 2)) == ["b", "c"]
    assert order([], 2, diversity=0.5) == []


def test_what_is_worth_less_goes_behind_but_is_not_lost() -> None:
    hits = [hit("french", 0.3), hit("english", 0.2)]
    assert names(order(hits, 5, lambda found: 0.5 if found.chunk.id == "french" else 1.0)) == ["english", "french"]
    assert names(order(hits, 5, lambda _: 0.5)) == ["french", "english"]


def test_a_second_chunk_of_a_document_yields_to_a_close_other() -> None:
    hits = [hit("a1", 0.30, "a"), hit("a2", 0.29, "a"), hit("b1", 0.22, "b"), hit("c1", 0.19, "c")]
    assert names(order(hits, 4)) == ["a1", "b1", "a2", "c1"]
    assert names(order(hits[:2], 3)) == ["a1", "a2"]


def test_with_diversity_what_says_the_same_yields_to_what_says_another_thing() -> None:
    hits = [hit("first", 0.9), hit("echo", 0.8), hit("other", 0.6, vector=EAST)]
    assert names(order(hits, 3)) == ["first", "echo", "other"]
    assert names(order(hits, 3, diversity=0.3)) == ["first", "other", "echo"]
    assert names(order(hits, 3, diversity=0.1)) == ["first", "echo", "other"]


@given(st.lists(st.floats(0, 1), max_size=8), st.integers(1, 8), st.floats(0, 1))
def test_order_gives_each_hit_once_and_the_best_first(fused: list[float], limit: int, diversity: float) -> None:
    hits = [hit(str(place), score, vector=EAST if place % 2 else NORTH) for place, score in enumerate(fused)]
    found = order(hits, limit, diversity=diversity)
    assert len(found) == min(limit, len(hits)) == len(set(names(found)))
    assert not found or diversity == 1 or found[0].fused == max(fused)
