"""Every figure counts what its definition says, and what is unknown counts for nothing."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.governance.outcomes import LeadFacts, by_arm, by_day, percentile, summarise

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def lead(after_s: float | None = None, **facts: Any) -> LeadFacts:
    first = NOON + timedelta(seconds=after_s) if after_s is not None else None
    return LeadFacts(**{"received_at": NOON, "decided": True, "first_response_at": first} | facts)


def test_nothing_is_known_of_no_leads() -> None:
    metrics = summarise([])
    assert metrics.volume == metrics.decided == metrics.outcomes_open == 0
    assert metrics.conversion.value is None
    assert metrics.conversion.interval95 is None
    assert metrics.first_response.p50_s is None
    assert metrics.cost_per_lead_usd is None


def test_an_open_outcome_is_neither_won_nor_lost() -> None:
    metrics = summarise([lead(converted=True), lead(converted=False), lead(converted=False), *[lead()] * 7])
    assert metrics.volume == 10
    assert metrics.conversion.value == pytest.approx(1 / 3)
    assert metrics.conversion.of == 3
    assert metrics.outcomes_open == 7


def test_an_undecided_lead_is_in_the_volume_only() -> None:
    metrics = summarise([lead(escalated=True, cost_micros=3_000_000), lead(decided=False)])
    assert (metrics.volume, metrics.decided, metrics.outcomes_open) == (2, 1, 1)
    assert metrics.escalation_rate.value == 1.0
    assert metrics.cost_per_lead_usd == pytest.approx(3.0)


def test_an_escalation_that_nobody_judged_is_left_out_of_the_precision() -> None:
    escalated = [lead(escalated=True, escalation_necessary=answer) for answer in (True, True, True, False, None)]
    metrics = summarise([*escalated, lead(), lead(escalation_necessary=False)])
    assert metrics.escalation_rate.value == pytest.approx(5 / 7)
    assert metrics.escalation_precision.value == pytest.approx(3 / 4)
    assert metrics.escalation_precision.of == 4


def test_a_lead_that_waits_is_counted_but_not_timed() -> None:
    answered = [lead(seconds, response_due=True) for seconds in (1, 2, 3, 4, 100)]
    response = summarise([*answered, lead(response_due=True), lead(response_due=False)]).first_response
    assert (response.p50_s, response.p90_s) == (3, 100)
    assert (response.answered, response.waiting) == (5, 1)


def test_an_answer_before_its_lead_counts_as_at_once() -> None:
    assert summarise([lead(-0.2)]).first_response.p50_s == 0.0


def test_ratings_and_judgements_are_summed_over_leads() -> None:
    metrics = summarise(
        [lead(ratings=3, satisfied=3, judged=2, correct=1), lead(ratings=1, judged=2, correct=2), lead()]
    )
    assert (metrics.csat.value, metrics.csat.of) == (0.75, 4)
    assert (metrics.decision_accuracy.value, metrics.decision_accuracy.of) == (0.75, 4)


def test_failed_decisions_cost_too() -> None:
    assert summarise([lead(cost_micros=1500), lead(cost_micros=500)]).cost_per_lead_usd == pytest.approx(0.001)


def test_a_lead_counts_on_the_utc_day_it_came_and_empty_days_are_shown() -> None:
    tokyo = datetime(2026, 3, 5, 1, tzinfo=timezone(timedelta(hours=9)))
    days = by_day([lead(converted=True), lead(received_at=tokyo), lead()])
    assert [(entry.day, entry.metrics.volume) for entry in days] == [
        (date(2026, 3, 2), 2),
        (date(2026, 3, 3), 0),
        (date(2026, 3, 4), 1),
    ]
    assert days[0].metrics.conversion.value == 1.0
    assert by_day([]) == []


def test_arms_are_compared_with_the_first() -> None:
    def arm(name: str, won: int, lost: int) -> list[LeadFacts]:
        leads = [lead(experiment="tone", arm=name, converted=True)] * won
        return leads + [lead(experiment="tone", arm=name, converted=False)] * lost

    facts = arm("control", 300, 1700) + arm("short", 500, 1500) + [lead(experiment="old", arm="short", converted=True)]
    control, short, empty = by_arm([*facts, lead()], "tone", ["control", "short", "empty"])
    assert (control.control, control.conversion) == (True, None)
    assert control.metrics.volume == 2000
    assert short.metrics.volume == 2000
    assert short.conversion is not None
    assert short.conversion.difference == pytest.approx(0.1)
    assert short.conversion.significant
    assert short.decision_accuracy is not None
    assert short.decision_accuracy.difference is None
    assert empty.metrics.volume == 0
    assert empty.conversion is not None
    assert empty.conversion.needed_per_arm == short.conversion.needed_per_arm
    assert by_arm(facts, "tone", []) == []


facts = st.builds(
    LeadFacts,
    received_at=st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 20), timezones=st.just(UTC)),  # noqa: DTZ001
    experiment=st.just("tone"),
    arm=st.sampled_from(["a", "b"]),
    decided=st.booleans(),
    converted=st.sampled_from([True, False, None]),
    escalated=st.booleans(),
    escalation_necessary=st.sampled_from([True, False, None]),
    cost_micros=st.integers(0, 10**6),
)


@given(st.lists(facts, max_size=40))
def test_days_and_arms_divide_the_whole(leads: list[LeadFacts]) -> None:
    whole = summarise(leads)
    for parts in ([d.metrics for d in by_day(leads)], [a.metrics for a in by_arm(leads, "tone", ["a", "b"])]):
        assert sum(part.volume for part in parts) == whole.volume
        assert sum(part.decided for part in parts) == whole.decided
        assert sum(part.conversion.of for part in parts) == whole.conversion.of
        assert sum(part.escalation_precision.of for part in parts) == whole.escalation_precision.of
        won = sum((part.conversion.value or 0) * part.conversion.of for part in parts)
        assert won == pytest.approx((whole.conversion.value or 0) * whole.conversion.of)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_a_percentile_is_a_value_with_that_share_at_or_below_it(values: list[float], share: float) -> None:
    found = percentile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) <= share * len(values)
