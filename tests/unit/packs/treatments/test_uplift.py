"""Treated against held back: shares, money, too few."""

import math

import numpy as np
import pytest
from scipy import stats

from app.packs.treatments.uplift import Arm, student, uplift


def arm(values: np.ndarray) -> Arm:
    return Arm(values.size, int((values > 0).sum()), float(values.sum()), float((values**2).sum()))


def test_the_interval_of_money_is_welch_s() -> None:
    draw = np.random.default_rng(1)
    treated, control = draw.exponential(30, 400), draw.exponential(20, 90)
    found = uplift(arm(treated), arm(control))
    interval = stats.ttest_ind(treated, control, equal_var=False).confidence_interval(0.95)
    assert found.value == pytest.approx(treated.mean() - control.mean())
    assert found.value_interval95 == pytest.approx((interval.low, interval.high), rel=1e-4)


@pytest.mark.parametrize("freedom", [10, 29.4, 1000])
def test_student_s_quantile_is_close(freedom: float) -> None:
    assert student(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-4)


def test_a_clear_difference_is_a_verdict() -> None:
    found = uplift(Arm(4000, 600, 0, 0), Arm(4000, 300, 0, 0))
    assert found.enough
    assert found.note.startswith("Better than without treatment: +7.5 points of success")
    assert uplift(Arm(4000, 300, 0, 0), Arm(4000, 600, 0, 0)).note.startswith("Worse than without treatment: -7.5")
    assert uplift(Arm(4000, 300, 0, 0), Arm(4000, 301, 0, 0)).note.startswith("No difference is shown")


def test_too_few_are_told_with_how_many_are_needed() -> None:
    found = uplift(Arm(20, 4, 40, 100), Arm(5, 0, 0, 0))
    assert not found.enough
    assert found.success.interval95 is not None
    assert found.value == 2
    assert found.value_interval95 is None
    assert found.note.endswith(f"each arm needs {found.success.needed_per_arm}.")


def test_an_empty_arm_says_nothing() -> None:
    found = uplift(Arm(10, 1, 5, 25), Arm(0, 0, 0, 0))
    assert (found.value, found.value_interval95, found.success.difference) == (None, None, None)
    assert found.note.startswith("Too few to say anything (10 treated, 0 held back)")


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = uplift(Arm(40, 40, 80, 160), Arm(40, 0, 0, 0))
    assert found.value_interval95 == (2, 2)
    assert math.isclose(Arm(3, 1, 0.3, 0.03).variance or 0, 0, abs_tol=1e-12)


def test_more_successes_than_customers_are_refused() -> None:
    with pytest.raises(ValueError, match="5 successes of 4 customers"):
        Arm(4, 5, 0, 0)
