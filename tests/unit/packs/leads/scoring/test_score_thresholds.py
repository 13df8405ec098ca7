import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.packs.leads.scoring.thresholds import Economics, fit_thresholds, value_per_lead

PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=50).map(
    lambda pairs: ([score for score, _ in pairs], [outcome for _, outcome in pairs])
)


@given(PAIRS, st.floats(0.5, 30))
def test_no_other_threshold_is_worth_more_than_the_fitted_one(pair, benefit):
    money = Economics(1.0, benefit)
    fitted = value_per_lead(*pair, fit_thresholds(*pair, 0.1, money).pursue, money)
    assert fitted >= 0
    assert all(fitted >= value_per_lead(*pair, other, money) - 1e-9 for other in (0, 0.1, 0.2, 0.5, 0.9, 1))


@given(PAIRS, st.floats(0, 1))
def test_escalation_stays_within_capacity_and_uses_what_ties_allow(pair, capacity):
    scores = np.array(pair[0])
    threshold = fit_thresholds(*pair, capacity).escalate
    assert (scores >= threshold).sum() <= capacity * scores.size
    below = scores[scores < threshold]
    if below.size:
        assert (scores >= below.max()).sum() > capacity * scores.size


def test_a_calibrated_score_is_cut_near_cost_over_benefit():
    draw = np.random.default_rng(3)
    scores = draw.random(40_000)
    outcomes = draw.random(40_000) < scores
    assert fit_thresholds(scores, outcomes, 0.05, Economics(1, 4)).pursue == pytest.approx(0.25, abs=0.03)
    assert fit_thresholds(scores, outcomes, 0.05).escalate == pytest.approx(0.95, abs=0.01)


def test_where_nothing_pays_nothing_is_pursued():
    fitted = fit_thresholds([0.2, 0.9], [False, False], 0.0)
    assert fitted.pursue > 0.9
    assert fitted.escalate > 0.9


def test_impossible_capacity_and_economics_are_refused():
    with pytest.raises(InvalidInput, match="capacity"):
        fit_thresholds([0.1], [True], 1.5)
    with pytest.raises(InvalidInput, match="above zero"):
        Economics(contact_cost=0)
    assert Economics(2, 8).break_even == 0.25
