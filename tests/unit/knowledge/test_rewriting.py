"""Feedback from what was found, and follow-ups that stand alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.knowledge.base import Chunk, Hit
from app.knowledge.language import LanguageGuess
from app.knowledge.rewriting import FollowUps, expand

FOLLOW_UPS = FollowUps.load(LanguageGuess.load())
PRICE = "How much does the Harbour freezer sensor cost per month?"


def hit(*vector: float) -> Hit:
    return Hit(Chunk("a", "a", "a", "a", "a", 0, "a"), 1.0, (0.0,), 0.0, np.array(vector, np.float32))


def test_a_question_moves_towards_the_mean_of_what_was_found() -> None:
    question = np.array([[1, 0]], np.float32)
    moved = expand(question, [hit(0, 1), hit(0, 1)])
    assert moved == pytest.approx(np.array([[1, 1]]) / np.sqrt(2))
    assert expand(question, [hit(0, 1)], weight=0.0) == pytest.approx(question)


def test_without_anything_found_a_question_stays_as_it_is() -> None:
    question = np.array([[1, 0]], np.float32)
    assert expand(question, []) is question


def test_a_wording_without_a_vector_is_given_none() -> None:
    wordings = np.array([[0, 0], [0, 1]], np.float32)
    moved = expand(wordings, [hit(1, 0)])
    assert not moved[0].any()
    assert moved[1] == pytest.approx([np.sqrt(0.5)] * 2)
    assert not np.isnan(expand(np.array([[1, 0]], np.float32), [hit(-1, 0)])).any()


@pytest.mark.parametrize(
    "question",
    [
        "Does it work in the rain?",
        "And in winter?",
        "Why?",
        "What about batteries?",
        "Und wie lange hält es?",
        "Et lui ?",
    ],
)
def test_a_follow_up_is_given_what_the_last_question_was_about(question: str) -> None:
    wording = FOLLOW_UPS.rewrite(question, [PRICE])
    assert wording.startswith(question)
    assert {"Harbour", "freezer", "sensor"} <= set(wording.split())
    assert not {"How", "much", "does", "the"} & set(wording.removeprefix(question).split())


@pytest.mark.parametrize(
    "question",
    [
        PRICE,
        "refund policy",
        "Is it possible to return an opened sensor after thirty days?",
        "Which integrations exist for Salesforce and HubSpot?",
    ],
)
def test_a_question_that_stands_alone_stays_as_it_is(question: str) -> None:
    assert FOLLOW_UPS.rewrite(question, ["Where is your office in Berlin?"]) == question


def test_without_a_history_every_question_stays_as_it_is() -> None:
    assert FOLLOW_UPS.rewrite("And that?", []) == "And that?"


def test_a_follow_up_of_a_follow_up_reaches_back_to_the_topic() -> None:
    assert "freezer" in FOLLOW_UPS.rewrite("And in winter?", [PRICE, "Does it float?"])
    assert "float" not in FOLLOW_UPS.rewrite("And in winter?", [PRICE, "Does it float?"])


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=3))
def test_any_text_is_a_question_and_none_of_it_is_lost(question: str, history: list[str]) -> None:
    assert FOLLOW_UPS.rewrite(question, history).startswith(question)
