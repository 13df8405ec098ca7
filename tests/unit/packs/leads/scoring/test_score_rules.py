import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.packs.leads.scoring.bank import bank_rules
from app.packs.leads.scoring.rules import lead_rules

STRONG = {
    "employees": "1,200",
    "budget_usd": 60000,
    "role": "Head of Operations",
    "industry": "Logistics",
    "company": "Nordhafen",
    "phone": "+49 30 0000000",
    "source": "Referral",
}
VALUES = st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.text()), st.booleans())


def names(score):
    return {part.feature for part in score.contributions}


def test_a_strong_lead_is_explained_rule_by_rule():
    score = lead_rules(["logistics"]).score(STRONG, {"wants_meeting": True})
    assert names(score) == {
        "company of 1,000 people or more",
        "budget of $50,000 or more",
        "can decide",
        "industry served",
        "names a company",
        "gives a phone number",
        "was referred",
        "asks for a meeting",
    }
    assert score.probability > 0.9
    assert score.contributions[0] == ("asks for a meeting", "yes", 1.2)


def test_a_lead_of_whom_nothing_is_known_is_scored_below_the_prior():
    score = lead_rules().score({})
    assert names(score) == {"names no company"}
    assert score.probability < 0.1
    assert score.baseline == pytest.approx(math.log(0.1 / 0.9))


@pytest.mark.parametrize(
    ("signal", "sinks"),
    [("spam", True), ("unsubscribe", True), ("job_seeker", True), ("wants_meeting", False), ("asks_price", False)],
)
def test_message_signals_move_the_score(signal, sinks):
    rules = lead_rules()
    moved, plain = rules.score(STRONG, {signal: True}).probability, rules.score(STRONG).probability
    assert (moved < plain) is sinks
    assert rules.score(STRONG, {signal: False}).probability == plain


@pytest.mark.parametrize(
    ("role", "rule"),
    [
        ("VP Sales", "can decide"),
        ("Geschäftsführerin", "can decide"),
        ("Project manager", "can recommend"),
        ("Praktikantin im Einkauf", "studies or trains"),
    ],
)
def test_seniority_is_read_from_whole_words(role, rule):
    assert rule in names(lead_rules().score({"role": role}))
    assert "can decide" not in names(lead_rules().score({"role": "directory assistant, cooking"}))


def test_an_industry_counts_only_where_the_tenant_serves_it():
    assert "industry served" not in names(lead_rules().score(STRONG))
    assert "industry served" not in names(lead_rules(["farming"]).score(STRONG))


@given(st.dictionaries(st.sampled_from([*STRONG, "unknown"]), VALUES), st.dictionaries(st.text(), st.booleans()))
def test_any_attributes_give_a_probability_that_the_contributions_explain(attributes, signals):
    score = lead_rules(["x"]).score(attributes, signals)
    total = score.baseline + sum(part.log_odds for part in score.contributions)
    assert score.probability == pytest.approx(1 / (1 + math.exp(-total)))


def test_the_bankers_rules_prefer_who_bought_before_and_owes_nothing():
    rules = bank_rules()
    good = rules.score({"poutcome": "success", "balance": "2143", "default": "no", "loan": "no", "campaign": "1"})
    bad = rules.score({"poutcome": "failure", "balance": "-20", "default": "yes", "loan": "yes", "campaign": "9"})
    assert good.probability > 0.3 > 0.02 > bad.probability
    assert names(bad) == {
        "declined the last offer",
        "overdrawn",
        "in default",
        "has a personal loan",
        "called four times or more",
    }
