import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.packs.leads.scoring.calibration import (
    fit_intercept,
    probabilities,
    recalibrated_as_outcomes_arrive,
)


@given(st.integers(0, 200), st.floats(-4, 4))
def test_the_fitted_intercept_makes_the_stated_rate_the_observed_one(seed, level):
    draw = np.random.default_rng(seed)
    evidence = draw.normal(0, 1, 2000)
    outcomes = draw.random(2000) < probabilities(evidence + level)
    stated = probabilities(evidence + fit_intercept(evidence, outcomes)).mean()
    assert stated == pytest.approx(outcomes.mean(), abs=0.002)


@pytest.mark.parametrize("outcome", [True, False])
def test_one_kind_of_outcome_still_gives_a_finite_intercept(outcome):
    intercept = fit_intercept([50.0, -50.0, 0.0], [outcome] * 3)
    assert np.isfinite(intercept)
    assert (intercept > 0) is outcome


def test_a_block_never_sees_its_own_or_later_outcomes():
    draw = np.random.default_rng(1)
    evidence, outcomes = draw.normal(0, 1, 400), draw.random(400) < 0.3
    first = recalibrated_as_outcomes_arrive(evidence, outcomes, 100, block=50, window=80)
    flipped = np.concatenate([outcomes[:200], ~outcomes[200:]])
    second = recalibrated_as_outcomes_arrive(evidence, flipped, 100, block=50, window=80)
    assert first.shape == (300,)
    assert np.array_equal(first[:150], second[:150])
    assert not np.allclose(first[150:], second[150:])


def test_recalibration_follows_a_base_rate_that_jumps():
    draw = np.random.default_rng(2)
    outcomes = np.concatenate([draw.random(2000) < 0.05, draw.random(2000) < 0.3])
    followed = recalibrated_as_outcomes_arrive(np.zeros(4000), outcomes, 1000, block=100, window=500)
    assert followed[:900].mean() == pytest.approx(0.05, abs=0.02)
    assert followed[-900:].mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("history", [0, 3, 4])
def test_a_history_of_nothing_or_of_everything_is_refused(history):
    with pytest.raises(InvalidInput, match="history of 1 to 2"):
        recalibrated_as_outcomes_arrive([0.0, 0.0, 0.0], [True, False, True], history)
