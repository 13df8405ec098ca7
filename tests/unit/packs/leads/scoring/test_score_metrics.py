import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score

from app.errors import InvalidInput
from app.packs.leads.scoring.metrics import (
    brier,
    decision_accuracy,
    escalation_precision,
    expected_calibration_error,
    rate_in_top,
    roc_auc,
    top_decile_lift,
)

# Few distinct values on purpose: ties are where these go wrong.
PROBABILITY = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
SCORED = st.lists(st.tuples(PROBABILITY, st.booleans()), min_size=2, max_size=60).map(
    lambda pairs: ([score for score, _ in pairs], [outcome for _, outcome in pairs])
)
BOTH_KINDS = SCORED.filter(lambda pair: len(set(pair[1])) == 2)


@given(BOTH_KINDS)
def test_roc_auc_is_scikit_learns(pair):
    assert roc_auc(*pair) == pytest.approx(roc_auc_score(pair[1], pair[0]))


@given(BOTH_KINDS)
def test_brier_is_scikit_learns(pair):
    assert brier(*pair) == pytest.approx(brier_score_loss(pair[1], pair[0]))


@given(SCORED, st.floats(0, 1))
def test_decision_accuracy_is_scikit_learns(pair, threshold):
    decided = [score >= threshold for score in pair[0]]
    assert decision_accuracy(*pair, threshold) == pytest.approx(accuracy_score(pair[1], decided))


@given(st.integers(0, 1000))
def test_calibration_error_is_the_weighted_gap_of_scikit_learns_quantile_curve(seed):
    draw = np.random.default_rng(seed)
    scores = draw.permutation(np.linspace(0.01, 0.99, 200))
    outcomes = draw.random(200) < scores**2
    actual, stated = calibration_curve(outcomes, scores, n_bins=10, strategy="quantile")
    assert expected_calibration_error(scores, outcomes) == pytest.approx(np.mean(np.abs(actual - stated)), abs=0.01)


@given(BOTH_KINDS, st.randoms())
def test_no_figure_depends_on_the_order_of_the_rows(pair, order):
    rows = list(zip(*pair, strict=True))
    order.shuffle(rows)
    shuffled = [score for score, _ in rows], [outcome for _, outcome in rows]
    for figure in (roc_auc, top_decile_lift, expected_calibration_error, brier):
        assert figure(*shuffled) == pytest.approx(figure(*pair))
    assert escalation_precision(*shuffled, 0.3) == pytest.approx(escalation_precision(*pair, 0.3))


@given(st.floats(0, 1), st.lists(st.booleans(), min_size=2, max_size=50).filter(lambda made: len(set(made)) == 2))
def test_a_constant_score_is_worth_exactly_chance(score, outcomes):
    scores, rate = [score] * len(outcomes), sum(outcomes) / len(outcomes)
    assert roc_auc(scores, outcomes) == pytest.approx(0.5)
    assert top_decile_lift(scores, outcomes) == pytest.approx(1)
    assert escalation_precision(scores, outcomes, 0.2) == pytest.approx(rate)
    assert expected_calibration_error(scores, outcomes) == pytest.approx(abs(score - rate))


def test_a_perfect_ranking_puts_all_conversions_on_top():
    scores, outcomes = list(range(100)), [index >= 90 for index in range(100)]
    assert roc_auc(scores, outcomes) == 1
    assert top_decile_lift(scores, outcomes) == pytest.approx(10)
    assert rate_in_top(scores, outcomes, 0.05) == 1
    assert rate_in_top(scores, outcomes, 0.2) == pytest.approx(0.5)
    assert rate_in_top([1, 2], [False, True], 0.001) == 1


def test_the_whole_share_is_the_base_rate_and_a_share_outside_is_refused():
    assert rate_in_top([0.1, 0.2, 0.3, 0.4], [True, False, False, False], 1) == 0.25
    for share in (0, -0.1, 1.1):
        with pytest.raises(InvalidInput, match="share of leads"):
            rate_in_top([0.1], [True], share)


def test_figures_that_need_both_kinds_of_outcome_say_so():
    with pytest.raises(InvalidInput, match="converted and leads that did not"):
        roc_auc([0.1, 0.2], [True, True])
    with pytest.raises(InvalidInput, match="at least one lead"):
        top_decile_lift([0.1, 0.2], [False, False])


@pytest.mark.parametrize(("scores", "outcomes"), [([], []), ([0.1], []), ([[0.1]], [[True]]), ([float("nan")], [True])])
def test_scores_without_their_outcomes_are_refused(scores, outcomes):
    with pytest.raises(InvalidInput):
        brier(scores, outcomes)
