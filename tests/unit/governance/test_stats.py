"""The statistics agree with published examples and with simulation."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.governance.stats import needed_per_arm, two_proportions, wilson

counts = st.integers(1, 500).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))


def test_newcombes_published_intervals_come_out() -> None:
    # Newcombe 1998, table II, method 10: 56/70 - 48/80, 9/10 - 3/10, 10/10 - 0/10.
    for counts_, expected in (
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((10, 10, 0, 10), (0.6075, 1.0000)),
    ):
        assert two_proportions(*counts_).interval95 == pytest.approx(expected, abs=5e-5)


def test_wilsons_published_intervals_come_out() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857-872), table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)
    assert wilson(0, 0) is None


def test_the_sample_size_agrees_with_the_tables() -> None:
    # Fleiss, Levin and Paik, eq. 4.14 worked by hand for 0.5 against 0.6: 387.34.
    assert needed_per_arm(0.5, 0.1) == 388
    assert needed_per_arm(0.1, 0.05) == 686
    assert needed_per_arm(0.1, 0.05, power=0.9) > needed_per_arm(0.1, 0.05)


def test_p_values_come_out() -> None:
    # chisq.test(matrix(c(30, 70, 50, 50), 2), correct = FALSE) in R: p = 0.003892.
    assert two_proportions(30, 100, 50, 100).p_value == pytest.approx(0.003892, abs=1e-6)


@pytest.mark.parametrize("arm", [(0, 0, 5, 10), (5, 10, 0, 0), (0, 0, 0, 0)])
def test_an_arm_without_units_is_not_known_yet(arm: tuple[int, int, int, int]) -> None:
    compared = two_proportions(*arm)
    assert (compared.difference, compared.interval95, compared.p_value) == (None, None, None)
    assert not compared.enough
    assert not compared.significant
    assert (compared.needed_per_arm is None) == (arm[3] == 0)


def test_nothing_is_significant_before_enough_is_seen() -> None:
    early = two_proportions(9, 10, 1, 10)
    assert early.p_value is not None
    assert early.p_value < 0.001
    assert (early.enough, early.significant) == (False, False)
    late = two_proportions(900, 1000, 100, 1000)
    assert (late.enough, late.significant) == (True, True)


@given(counts, counts)
def test_every_result_is_within_its_bounds(one: tuple[int, int], other: tuple[int, int]) -> None:
    compared = two_proportions(*one, *other)
    assert compared.difference is not None
    assert compared.interval95 is not None
    assert compared.p_value is not None
    low, high = compared.interval95
    assert -1 - 1e-9 <= low <= compared.difference + 1e-9
    assert compared.difference - 1e-9 <= high <= 1 + 1e-9
    assert 0 <= compared.p_value <= 1 + 1e-12
    assert compared.needed_per_arm is not None
    assert compared.needed_per_arm > 0


@given(counts, counts)
def test_swapping_the_arms_turns_the_sign(one: tuple[int, int], other: tuple[int, int]) -> None:
    there, back = two_proportions(*one, *other), two_proportions(*other, *one)
    assert there.difference == -(back.difference or 0)
    assert there.interval95 is not None
    assert back.interval95 is not None
    assert there.interval95 == pytest.approx((-back.interval95[1], -back.interval95[0]))
    assert there.p_value == pytest.approx(back.p_value)


def test_equal_arms_are_called_different_about_as_rarely_as_promised() -> None:
    draw = random.Random(7)
    needed = needed_per_arm(0.3, 0.05)
    found = 0
    for _ in range(200):
        first, second = (sum(draw.random() < 0.3 for _ in range(needed)) for _ in range(2))
        found += two_proportions(first, needed, second, needed).significant
    # 5 % of 200 is 10; four standard deviations above that.
    assert found <= 10 + 4 * math.sqrt(200 * 0.05 * 0.95)


def test_a_real_difference_is_found_about_as_often_as_promised() -> None:
    draw = random.Random(7)
    needed = 1 + needed_per_arm(0.3, 0.05)
    found = 0
    for _ in range(200):
        treatment = sum(draw.random() < 0.35 for _ in range(needed))
        control = sum(draw.random() < 0.3 for _ in range(needed))
        p_value = two_proportions(treatment, needed, control, needed).p_value
        found += p_value is not None and p_value < 0.05
    # 80 % of 200 is 160; four standard deviations around that.
    assert abs(found - 160) <= 4 * math.sqrt(200 * 0.8 * 0.2)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, -1)])
def test_impossible_counts_are_an_error(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        two_proportions(successes, trials, 1, 2)
    with pytest.raises(ValueError, match="cannot be"):
        wilson(successes, trials)


@pytest.mark.parametrize("detect", [0.0, -0.1, 0.6])
def test_an_impossible_difference_is_an_error(detect: float) -> None:
    with pytest.raises(ValueError, match="within"):
        needed_per_arm(0.3, detect)
