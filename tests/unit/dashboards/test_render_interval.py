"""Durations, and what Grafana computes from a range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.render.interval import duration, filled, rate_interval, seconds, step, times


@given(st.integers(1, 10**10))
def test_a_duration_is_read_back_as_it_was_written(milliseconds: int) -> None:
    assert seconds(duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(("text", "length"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("500ms", 0.5), ("60", 60)])
def test_a_duration_is_read(text: str, length: float) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "soon", "15 m", "-5m", "0", "m", "nan", "inf", "5m!"])
def test_what_is_no_duration_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds(text)


def test_the_rate_interval_holds_four_scrapes_and_a_step_with_the_scrape_before_it() -> None:
    assert rate_interval(step_s=15, scrape_s=15) == 60
    assert rate_interval(step_s=120, scrape_s=15) == 135
    assert rate_interval(step_s=1, scrape_s=1) == 4


@pytest.mark.parametrize(
    ("range_s", "points", "chosen"), [(900, 553, 2), (10_800, 553, 20), (604_800, 553, 1200), (60, 600, 1)]
)
def test_a_step_is_rounded_as_grafana_rounds_it(range_s: float, points: int, chosen: float) -> None:
    assert step(range_s, points, least_s=1) == chosen


def test_no_step_is_shorter_than_a_scrape() -> None:
    assert step(900, 553, least_s=15) == 15


def test_variables_are_filled_in_each_of_their_three_forms() -> None:
    known = {"pack": "chat|leads", **times(900, 15, 15)}
    found = filled('rate(x{a=~"$pack", b=~"${pack:regex}", c=~"[[pack]]"}[$__rate_interval]) * $__range_s', known)
    assert found == 'rate(x{a=~"chat|leads", b=~"chat|leads", c=~"chat|leads"}[1m]) * 900'


def test_a_name_that_nobody_knows_stays_and_one_is_not_the_beginning_of_another() -> None:
    assert filled("x[$__interval] $other $packs", {"__interval": "5s", "pack": "a"}) == "x[5s] $other $packs"
