"""Forecasts of demand: weekdays, levels, errors told, few days."""

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.packs.treatments.forecast import ForecastMethod, forecast
from tests.support.examples import examples

UNTIL = date(2026, 3, 4)


def series(units: list[int]) -> dict[date, int]:
    return {UNTIL - timedelta(days=len(units) - place): number for place, number in enumerate(units)}


def by_weekday(days: int, week: tuple[int, ...]) -> dict[date, int]:
    dates = [UNTIL - timedelta(days=back) for back in range(days, 0, -1)]
    return {day: week[day.weekday()] for day in dates}


@pytest.mark.parametrize("days", [28, 31, 80])
def test_a_weekly_rhythm_is_foretold_exactly(days: int) -> None:
    week = (10, 12, 14, 16, 18, 4, 0)
    found = forecast(by_weekday(days - days % 7, week), 10, UNTIL)
    assert found.method is ForecastMethod.SMOOTHED_WEEKDAYS
    assert [point.day for point in found.points] == [UNTIL + timedelta(days=step) for step in range(10)]
    assert [point.expected for point in found.points] == pytest.approx([week[p.day.weekday()] for p in found.points])
    assert found.backtest is not None
    assert found.backtest.mae < 1.5
    assert found.backtest.mase is None


def test_the_level_follows_a_lasting_change() -> None:
    found = forecast(series([10] * 60 + [30] * 30), 1, UNTIL)
    assert found.points[0].expected == pytest.approx(30, rel=0.05)


def test_the_backtest_s_errors_are_those_of_earlier_days() -> None:
    found = forecast(series([10] * 20), 1, UNTIL)
    assert found.method is ForecastMethod.MEAN
    assert found.backtest is not None
    assert (found.backtest.origins, found.backtest.mae, found.backtest.bias) == (6, 0, 0)
    rising = forecast(series(list(range(20))), 1, UNTIL)
    assert rising.backtest is not None
    assert rising.backtest.mae == pytest.approx(sum(day - (day - 1) / 2 for day in range(14, 20)) / 6)
    assert rising.backtest.mase == pytest.approx(rising.backtest.mae / 7)
    assert rising.backtest.bias == -rising.backtest.mae
    assert rising.points[0].low > rising.points[0].expected


def test_few_days_fall_back_to_their_mean_and_say_so() -> None:
    found = forecast(series([2, 4, 6]), 2, UNTIL)
    assert [point.expected for point in found.points] == [4, 4]
    assert found.backtest is None
    assert found.points[0].low is None
    assert found.note == "The mean of 3 days: from 28 days on weekdays are told apart."


def test_a_day_between_that_is_not_named_had_none_and_later_days_are_not_seen() -> None:
    daily = {UNTIL - timedelta(days=4): 8, UNTIL: 1000, UNTIL + timedelta(days=1): 1000}
    found = forecast(daily, 1, UNTIL)
    assert found.days == 4
    assert found.points[0].expected == 2


def test_without_a_day_nothing_is_expected() -> None:
    found = forecast({}, 2, UNTIL)
    assert found.method is ForecastMethod.NONE
    assert [point.expected for point in found.points] == [0, 0]
    with pytest.raises(ValueError, match="at least one day"):
        forecast({}, 0, UNTIL)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.integers(0, 500), max_size=70), st.integers(1, 14))
def test_no_forecast_is_below_nothing_and_each_lies_in_order(units: list[int], horizon: int) -> None:
    found = forecast(series(units), horizon, UNTIL)
    assert len(found.points) == horizon
    for point in found.points:
        assert point.expected >= 0
        if point.low is not None and point.high is not None:
            assert 0 <= point.low <= point.high
