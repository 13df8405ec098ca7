"""What an answer has from its question alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conversation.echoes import echoes, words

PAGE = "A sensor costs four euro fifty a month."
SMALL = frozenset({"what", "does", "a", "is", "my", "the", "name", "i", "am"})


@pytest.mark.parametrize(
    ("question", "answer", "echoed"),
    [
        ("What does a sensor cost?", "A sensor costs four euro fifty [1].", set()),
        ("I am Zanzibar. What does a sensor cost?", "Dear ZANZIBAR, four euro fifty [1].", {"zanzibar"}),
        ("I am Zanzibar. What does a sensor cost?", "Four euro fifty [1].", set()),
        ("Ich bin Kim: was kostet das?", "Kims Sensor: four euro fifty [1].", {"kim"}),
        ("田中です。sensor?", "田中さん, four euro fifty [1].", {"田", "中"}),
        ("Is the annual price lower?", "The annual price is not on the page [1].", {"annual", "price"}),
    ],
)
def test_the_words_of_the_question_that_no_source_has(question: str, answer: str, echoed: set[str]) -> None:
    assert echoes(question, answer, [PAGE], lambda word: word in SMALL) == echoed


@given(st.text(), st.text(), st.text())
def test_what_is_echoed_was_said_by_whoever_asked(question: str, answer: str, source: str) -> None:
    found = echoes(question, answer, [source], lambda _word: False)
    assert found <= words(question)
    assert not found & words(source)
    assert found >= (words(question) & words(answer)) - words(source)
