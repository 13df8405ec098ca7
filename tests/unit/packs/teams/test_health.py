import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.packs.teams.health import (
    ACTIVITY,
    HEALTHY_FROM,
    PRIORITIES,
    SENTIMENT,
    TICKETS,
    WATCH_FROM,
    WEIGHTS,
    Direction,
    Health,
    HealthState,
    Signal,
    health_of,
    state_of,
    trend,
)
from app.packs.teams.models import SignalKind
from app.packs.teams.sentiment import Mood
from tests.support.examples import examples

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CLOSE = 1e-9


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def activity(days: float, quantity: float = 1.0) -> Signal:
    return Signal(SignalKind.ACTIVITY, ago(days), quantity)


def opened(days: float, ref: str, priority: str = "") -> Signal:
    return Signal(SignalKind.TICKET_OPENED, ago(days), ref=ref, priority=priority)


def solved(days: float, ref: str) -> Signal:
    return Signal(SignalKind.TICKET_SOLVED, ago(days), ref=ref)


def message(days: float, mood: Mood | None) -> Signal:
    return Signal(SignalKind.MESSAGE, ago(days), mood=mood)


DAYS = st.floats(-5, 200)
REFS = st.sampled_from([f"t{number}" for number in range(6)])
LEVELS = st.sampled_from(list(PRIORITIES))
SIGNALS = st.lists(
    st.one_of(
        st.builds(activity, DAYS, st.floats(0, 1e6)),
        st.builds(opened, DAYS, REFS, LEVELS),
        st.builds(solved, DAYS, REFS),
        st.builds(message, DAYS, st.sampled_from([*Mood, None])),
    ),
    max_size=25,
)


def healthy(signals: list[Signal]) -> Health:
    found = health_of(signals, NOW)
    assert found is not None
    return found


def factor(health: Health, name: str):
    return next(one for one in health.factors if one.name == name)


@given(SIGNALS)
@settings(max_examples=examples(200))
def test_a_score_lies_between_0_and_100_and_is_the_sum_of_its_points(signals: list[Signal]) -> None:
    health = health_of(signals, NOW)
    if health is None:
        return
    assert 0.0 <= health.score <= 100.0
    assert health.score == pytest.approx(math.fsum(one.points for one in health.factors), abs=CLOSE)
    assert math.fsum(one.weight for one in health.factors) == pytest.approx(1.0)
    assert health.state is state_of(health.score)
    for one in health.factors:
        assert (one.value is None) == (one.weight == 0.0)
        assert one.points == pytest.approx(100 * one.weight * (one.value or 0.0))
        assert one.value is None or 0.0 <= one.value <= 1.0
        assert one.sentence.endswith(".")


@given(SIGNALS, st.floats(0, 200), LEVELS)
@settings(max_examples=examples(300))
def test_one_more_open_ticket_never_raises_a_score(signals: list[Signal], days: float, priority: str) -> None:
    before = health_of(signals, NOW)
    after = healthy([*signals, opened(days, "one more", priority)])
    if before is not None:
        assert after.score <= before.score + CLOSE


@given(SIGNALS, st.floats(0, 89))
@settings(max_examples=examples(300))
def test_one_more_friendly_message_never_lowers_a_score(signals: list[Signal], days: float) -> None:
    before = health_of(signals, NOW)
    after = healthy([*signals, message(days, Mood.FRIENDLY)])
    if before is not None:
        assert after.score >= before.score - CLOSE


class Backwards:
    """Shuffles a list into its other end first."""

    def shuffle(self, values: list[Signal]) -> None:
        values.reverse()


@given(SIGNALS, st.randoms())
@example([opened(1, "t1", "low"), opened(1, "t1", "urgent")], Backwards())
@settings(max_examples=examples(50))
def test_the_order_of_the_signals_and_the_future_change_nothing(signals: list[Signal], random) -> None:
    past = [signal for signal in signals if signal.at <= NOW]
    random.shuffle(past)
    first, second = health_of(signals, NOW), health_of(past, NOW)
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.score == pytest.approx(second.score, abs=CLOSE)


def test_a_client_of_whom_nothing_is_known_has_no_score() -> None:
    assert health_of([], NOW) is None
    assert health_of([message(3, None)], NOW) is None


def test_a_factor_without_data_shares_its_weight_and_says_so() -> None:
    health = healthy([activity(day) for day in range(0, 120, 2)])
    assert [one.weight for one in health.factors] == [1.0, 0.0, 0.0]
    assert "weight of 35% is shared" in factor(health, TICKETS).sentence
    both = healthy([activity(1), message(1, Mood.NEUTRAL)])
    assert factor(both, ACTIVITY).weight == pytest.approx(WEIGHTS[ACTIVITY] / 0.65)


def test_the_usual_activity_is_080_half_of_it_040_and_half_as_much_again_is_100() -> None:
    before = [activity(day, 1.0) for day in range(31, 121)]
    for month, value in ((30.0, 0.8), (15.0, 0.4), (45.0, 1.0), (37.5, 0.9)):
        # 90 days before make 30 in a usual month but for the day that the window's end cuts.
        found = factor(healthy([*before, activity(1, month)]), ACTIVITY).value
        assert found == pytest.approx(value, abs=0.02)


def test_a_client_that_fell_silent_has_no_activity_however_long_ago_it_was() -> None:
    for days in (40, 100, 900):
        silent = factor(healthy([activity(days, 500)]), ACTIVITY)
        assert silent.value == 0.0
        assert f"days since the last: {days}" in silent.sentence


def test_open_tickets_weigh_by_priority_and_age_and_solved_ones_hardly() -> None:
    fine = [activity(day) for day in range(120)] + [solved(200, "s"), opened(210, "s"), solved(100, "s")]

    def value(*tickets: Signal) -> float:
        return factor(healthy([*fine, *tickets]), TICKETS).value

    assert value() == 1.0
    assert value(opened(5, "a"), solved(4, "a")) == pytest.approx(1 / (1 + 0.15 / 3))
    assert value(opened(0, "a")) == pytest.approx(1 / (1 + 1.15 / 3))
    assert value(opened(60, "a")) == pytest.approx(1 / (1 + 2 / 3))
    assert value(opened(60, "a", "urgent")) == pytest.approx(1 / (1 + 6 / 3))
    assert value(opened(60, "a", "low")) > value(opened(60, "a", "high")) > value(opened(60, "a", "urgent"))


def test_a_ticket_that_was_opened_again_after_its_solving_is_open() -> None:
    again = [opened(20, "a"), solved(15, "a"), opened(10, "a")]
    assert "Open tickets: 1 " in factor(healthy(again), TICKETS).sentence
    assert "Open tickets: 0 " in factor(healthy([*again, solved(5, "a")]), TICKETS).sentence


def test_an_old_ticket_that_is_open_counts_and_an_old_solved_one_does_not() -> None:
    assert "Open tickets: 1 " in factor(healthy([opened(400, "a")]), TICKETS).sentence
    assert health_of([opened(400, "a"), solved(300, "a")], NOW) is None


def test_newer_messages_count_more_and_one_unhappy_one_does_not_decide() -> None:
    better = factor(healthy([message(80, Mood.UNHAPPY), message(1, Mood.FRIENDLY)]), SENTIMENT).value
    worse = factor(healthy([message(1, Mood.UNHAPPY), message(80, Mood.FRIENDLY)]), SENTIMENT).value
    assert better > 0.8 > worse
    assert factor(healthy([message(0, Mood.UNHAPPY)]), SENTIMENT).value == pytest.approx(0.5)
    assert factor(healthy([message(0, Mood.UNHAPPY)] * 20), SENTIMENT).value < 0.05


def test_a_message_that_could_not_be_read_is_told_and_not_counted() -> None:
    found = factor(healthy([message(1, Mood.FRIENDLY), message(1, None)]), SENTIMENT)
    assert found.value == 1.0
    assert "1 more could not be read" in found.sentence
    assert found.source == "rule"


def test_the_limits_belong_to_the_better_state() -> None:
    assert state_of(HEALTHY_FROM) is HealthState.HEALTHY
    assert state_of(HEALTHY_FROM - 0.01) is HealthState.WATCH
    assert state_of(WATCH_FROM) is HealthState.WATCH
    assert state_of(WATCH_FROM - 0.01) is HealthState.AT_RISK


def test_a_trend_is_steady_within_five_points() -> None:
    assert trend(74.9, 70.0, NOW).direction is Direction.STEADY
    assert trend(75.0, 70.0, NOW).direction is Direction.UP
    assert trend(60.0, 70.0, NOW).direction is Direction.DOWN
    assert trend(60.0, 70.0, NOW).change == -10.0
