"""What two questions must share to get one answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.conversation.sameness import Sameness, tokens
from app.knowledge.language import LanguageGuess

SAMENESS = Sameness.load(LanguageGuess.load())
COSINE = 0.97


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I cancel the subscription of my account?", "how can I cancel my account's subscription"),
        ("When will the refund for my order be paid?", "When are refunds for orders paid?"),
        ("Could you please tell me what the support plan costs?", "What is the cost of the support plan?"),
        ("My export doesn't finish the report", "The export of my report does not finish"),
        ("Where can I purchase the new sensors?", "Where do I buy new sensors?"),
    ],
)
def test_other_words_around_the_same_content_ask_the_same(one: str, other: str) -> None:
    assert SAMENESS.score(one, other, COSINE) > 0.9
    assert SAMENESS.score(one, other, COSINE) == SAMENESS.score(other, one, COSINE)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What does the Team plan cost for a company?", "What does the Pro plan cost for a company?"),
        ("What does the plan cost for a company?", "What does the Pro plan cost for a company?"),
        ("Is the price of the sensor in euro?", "Is the price of the sensor in $?"),
        ("How do I change euro to dollar in the app?", "How do I change dollar to euro in the app?"),
        ("Is the data moved from Frankfurt to Dublin?", "Is the data moved from Dublin to Frankfurt?"),
        ("Can I pay after the delivery?", "Can I pay before the delivery?"),
        ("Is the machine covered by the warranty?", "Is the machine not covered by the warranty?"),
        ("I don't want to verify the identity", "I'm not able to verify the identity"),
        ("Can I pay but not withdraw the money?", "Can I withdraw but not pay the money?"),
        ("How do I export the report?", "Why do I export the report?"),
        ("How much of the invoice is paid by the insurance?", "Is all of the invoice paid by the insurance?"),
        ("Is the workshop for two people?", "Is the workshop for three people?"),
        ("Does the sdk for C# work with the sensors?", "Does the sdk for C++ work with the sensors?"),
    ],
)
def test_another_thing_negation_quantity_or_direction_is_another_question(one: str, other: str) -> None:
    assert SAMENESS.score(one, other, 1.0) == 0


def test_what_is_said_in_passing_alone_is_no_ground() -> None:
    assert SAMENESS.score("Can you please help me?", "Could you help us please?", 1.0) == 0


def test_the_longer_and_the_nearer_the_surer() -> None:
    short = SAMENESS.score("What is the price?", "What are the prices?", COSINE)
    long = ("What is the price of the temperature sensor?", "What are the prices of the temperature sensors?")
    assert 0 < short < SAMENESS.score(*long, COSINE) < 1
    assert SAMENESS.score(*long, 0.8) < SAMENESS.score(*long, 0.9)


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [
        ("Wie hoch ist der Preis für die Schulung?", "wie hoch ist der preis für die schulung", 1),
        ("Wie hoch ist der Preis für die Schulung?", "Wie hoch ist der Preis für eine Schulung?", 0),
        ("價格是多少？", "價格是多少", 1),
        ("価格はいくらですか", "価格はいくらでしたか", 0),
        ("sensor price", "price sensor", 0),
    ],
)
def test_where_nothing_was_measured_only_the_same_words_are_the_same(one: str, other: str, score: float) -> None:
    assert SAMENESS.score(one, other, 1.0) == score


WORDS = st.lists(
    st.sampled_from(["the", "price", "sensor", "is", "not", "from", "euro", "to", "dollar", "why", "all"]), max_size=9
)


@given(WORDS, WORDS, st.floats(-1, 1))
def test_a_score_is_a_share_and_does_not_care_who_was_first(one: list[str], other: list[str], cosine: float) -> None:
    first, second = " ".join(one), " ".join(other)
    score = SAMENESS.score(first, second, cosine)
    assert 0 <= score <= 1
    assert score == SAMENESS.score(second, first, cosine)
    assert SAMENESS.score(first, first, cosine) == 1


@given(st.text(max_size=40))
def test_any_text_is_the_same_as_itself_in_capitals_or_not(text: str) -> None:
    assert SAMENESS.score(text, f"  {text}?", 0.0) == 1
    assert all(token == token.strip() and token for token in tokens(text))
