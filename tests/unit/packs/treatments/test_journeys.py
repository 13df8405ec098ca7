"""Features, words, fingerprints and rules: what a history amounts to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.packs.treatments.catalogue import CatalogueIn, Condition, Treatment
from app.packs.treatments.eligibility import eligibility, refusal
from app.packs.treatments.features import churn_risk, features_of, trend, words_of
from app.packs.treatments.fingerprint import LENGTH, fingerprint_of, traits_of, vector_of, word_of
from app.packs.treatments.histories import KEPT, CustomerSeen, HistoryBuilder, Treated, Window
from app.packs.treatments.journey_stage import journey_of
from app.packs.treatments.stages import EventSeen, History
from tests.support.examples import examples

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAYS = 90
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["plan", "age", "vip", "note"]),
    st.one_of(st.text(max_size=60), st.booleans(), st.floats(-1e15, 1e15), st.integers(-(10**15), 10**15)),
)
EVENTS = st.lists(
    st.tuples(
        st.floats(-20, 120), st.sampled_from(["visit", "buy", "contact", "response"]), st.integers(-(10**9), 10**9)
    ),
    max_size=60,
)


def event(days_ago: float, kind: str = "visit", amount: int | None = None, text: str = "") -> EventSeen:
    return EventSeen(NOW - timedelta(days=days_ago), kind, "web", amount, text)


def history(*events: EventSeen, treated: Treated | None = None, **fields: Any) -> History:
    builder = HistoryBuilder(Window(NOW, DAYS))
    for one in sorted(events, key=lambda one: one.at):
        builder.add(one)
    known = {"segment": "", "fair_group": "", "worth_micros": 0, "attributes": {}} | fields
    return builder.history(CustomerSeen(id="c-1", external_id="x-1", **known), treated or Treated())


def catalogue(*treatments: Treatment, **fields: Any) -> CatalogueIn:
    return CatalogueIn(treatments=treatments or (Treatment(name="email", title="An e-mail"),), **fields)


def test_what_happens_at_the_moment_of_the_decision_or_later_is_not_seen() -> None:
    seen = history(event(1), event(0), event(-1), event(DAYS), event(DAYS + 0.001))
    assert seen.total == 2
    assert seen.digest == history(event(1), event(DAYS)).digest
    assert seen.digest != history(event(2), event(DAYS)).digest


def test_a_long_history_keeps_the_newest_and_tells_the_others_in_short() -> None:
    many = [
        event(80 - at / 100, "buy" if at % 4 == 0 else "visit", 500_000 if at % 4 == 0 else None) for at in range(5000)
    ]
    seen = history(*many)
    assert seen.total == 5000
    assert len(seen.events) == KEPT
    assert seen.events == many[-KEPT:]
    first, last = many[0].at, many[-KEPT - 1].at
    assert seen.summary == (
        f"Before these, {first:%Y-%m-%d} to {last:%Y-%m-%d}: 3720 x visit, 1240 x buy (620.00 USD)."
    )
    assert sum(seen.weeks) == 5000
    assert seen.amount_micros == 1250 * 500_000


def test_kinds_without_end_are_told_as_the_rest() -> None:
    seen = history(*(event(80 - at / 100, f"kind_{at}") for at in range(500)))
    assert "448 x other" in seen.summary
    assert seen.summary.count(" x ") == 13


def test_contacts_are_no_activity_of_the_customer() -> None:
    seen = history(event(3, "contact"), event(2, "contact"), event(1.5, "response"))
    features = features_of(seen, NOW, DAYS)
    assert (features["contacts"], features["response_rate"]) == (2, 0.5)
    assert features["recency_days"] == 1.5
    assert features["frequency"] == round(30 / DAYS, 3)


def test_a_success_of_a_treatment_is_a_response_however_long_ago() -> None:
    treated = Treated()
    treated.add("call_back", 3, 1, NOW - timedelta(days=700))
    treated.add("", 9, 9, NOW)
    seen = history(treated=treated)
    features = features_of(seen, NOW, DAYS)
    assert features["response_rate"] == round(1 / 3, 3)
    assert words_of(seen, features)["response"] == "some"
    assert words_of(seen, features)["recency"] == "never"
    assert list(seen.contacts) == ["call_back"]


def test_silence_is_judged_by_the_customers_own_rhythm() -> None:
    daily, yearly = churn_risk(14, 1), churn_risk(14, 300)
    assert daily > 0.95
    assert yearly < 0.01
    assert churn_risk(20, 10) == 0.5
    regular = features_of(history(*(event(day) for day in range(1, 85, 2))), NOW, DAYS)
    stopped = features_of(history(*(event(day) for day in range(30, 85, 2))), NOW, DAYS)
    assert regular["churn_risk"] < 0.3 < 0.9 < stopped["churn_risk"]


def test_trend_knows_up_from_down() -> None:
    assert trend([0, 1, 2, 3, 4, 5]) == pytest.approx(1.0, abs=0.3)
    assert trend([5, 4, 3, 2, 1, 0]) == -trend([0, 1, 2, 3, 4, 5])
    assert trend([2, 2, 2, 2]) == 0
    assert trend([0, 0]) == trend([7]) == trend([]) == 0


@settings(max_examples=examples(100))
@given(EVENTS, ATTRIBUTES, st.integers(1, 400))
def test_every_history_gives_features_in_bounds_and_one_vector(
    events: list[tuple[float, str, int]], attributes: dict[str, Any], window_days: int
) -> None:
    builder = HistoryBuilder(Window(NOW, window_days))
    for one in sorted((event(*fields) for fields in events), key=lambda one: one.at):
        builder.add(one)
    seen = builder.history(CustomerSeen("c-1", "x-1", "", "", 1, attributes), Treated())
    rules = catalogue(traits=("plan", "age", "vip", "note"), window_days=window_days)
    journey = journey_of(seen, rules, 3, NOW)
    assert 0 <= journey.features["recency_days"] <= window_days
    assert 0 <= journey.features["churn_risk"] <= 1
    assert 0 <= journey.features["response_rate"] <= 1
    assert -1 <= journey.features["trend"] <= 1
    assert len(journey.vector) == LENGTH
    assert all(0 <= number <= 1 for number in journey.vector)
    assert journey.fingerprint == fingerprint_of(dict(reversed(journey.traits.items())))
    assert journey.vector == vector_of(journey.traits)


def test_alike_customers_share_a_fingerprint_and_nobody_is_in_it() -> None:
    rules = catalogue(traits=("plan", "balance", "note"))
    note = "Call Zyra Quellmark at 0171 5550123, she said"
    here = {"plan": "Gold", "balance": 512, "note": note}
    there = {"plan": " gold ", "balance": 731.5, "note": "Another text that somebody wrote about somebody"}
    first = journey_of(history(event(2, amount=20_000_000, text="Zyra came"), attributes=here), rules, 1, NOW)
    second = journey_of(history(event(3, amount=31_000_000), attributes=there), rules, 1, NOW)
    other = journey_of(history(event(20, amount=31_000_000), attributes=there), rules, 1, NOW)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.traits["is.balance"] == "100 to 1000"
    assert first.traits["is.note"] == "other"
    assert "zyra" not in str((first.traits, first.seen, first.vector)).lower()


def test_an_attribute_never_takes_the_place_of_a_feature() -> None:
    traits = traits_of({"recency": "this week"}, "", {"recency": "forged", "segment": "forged"}, ("recency", "segment"))
    assert traits == {"recency": "this week", "segment": "unknown", "is.recency": "forged", "is.segment": "forged"}


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (True, "yes"),
        (1, "0 to 10"),
        (0.5, "0 to 10"),
        (-3, "below 0"),
        (10, "10 to 100"),
        (999.9, "100 to 1000"),
        (1000, "1000 to 10000"),
        (1e15, "1000000000000 to 10000000000000"),
        (float("nan"), "other"),
        ("60 and over", "60 and over"),
        ("ada@example.org", "other"),
        ("+49 171 55501", "other"),
        ("", "other"),
    ],
)
def test_attributes_become_words_that_many_share(value: Any, word: str) -> None:
    assert word_of(value) == word


def test_vectors_of_nearer_customers_are_nearer() -> None:
    def away(one: dict[str, str], other: dict[str, str]) -> float:
        return sum((a - b) ** 2 for a, b in zip(vector_of(one), vector_of(other), strict=True))

    calm = {"churn": "low", "recency": "this week", "is.plan": "gold"}
    assert 0 == away(calm, dict(calm)) < away(calm, {**calm, "churn": "medium"}) < away(calm, {**calm, "churn": "high"})
    assert away(calm, {**calm, "is.plan": "basic"}) == pytest.approx(0.5)


def test_rules_refuse_with_their_reason() -> None:
    rules = catalogue(
        Treatment(name="any", title="Any"),
        Treatment(name="gold_only", title="Gold", segments=("gold",)),
        Treatment(name="adults", title="Adults", conditions=(Condition(attribute="age", at_least=18, at_most=99),)),
        Treatment(name="agreed", title="Agreed", conditions=(Condition(attribute="agreed", any_of=(True,)),)),
        Treatment(name="seldom", title="Seldom", cooldown_days=30),
    )
    treated = Treated()
    treated.was_at("seldom", NOW - timedelta(days=29))
    seen = history(segment="basic", attributes={"age": 17, "agreed": 1}, treated=treated)
    found = eligibility(rules, seen, NOW)
    assert found.allowed == ["any"]
    assert found.refused == {
        "gold_only": "it is for the segment gold, the customer is in 'basic'",
        "adults": "it needs 'age' 18 to 99, the customer's is 17",
        "agreed": "it needs 'agreed' yes, the customer's is 1",
        "seldom": "the customer had it on 2026-05-03, and 30 days must lie between",
    }
    sound = history(segment="gold", attributes={"age": 18, "agreed": True})
    assert eligibility(rules, sound, NOW).allowed == [treatment.name for treatment in rules.treatments]


def test_what_is_not_known_of_a_customer_fulfils_no_condition() -> None:
    adults = Treatment(name="adults", title="Adults", conditions=(Condition(attribute="age", at_least=18),))
    assert refusal(adults, history(), NOW) == "it needs 'age' at least 18, which is not known of the customer"
    for value in ("old", True):
        assert refusal(adults, history(attributes={"age": value}), NOW) is not None


@pytest.mark.parametrize(("days", "refused"), [(30, False), (29.9, True), (-5, True), (-30, False), (-400, False)])
def test_cooldown_looks_both_ways(days: float, refused: bool) -> None:
    seldom = Treatment(name="seldom", title="Seldom", cooldown_days=30)
    treated = Treated()
    treated.was_at("seldom", NOW - timedelta(days=days))
    why = refusal(seldom, history(treated=treated), NOW)
    assert (why is not None) is refused
    assert why is None or ("booked" in why) is (days < 0)


def test_what_is_no_number_is_no_limit_of_a_condition() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Condition.model_validate_json('{"attribute": "age", "at_least": NaN}')
