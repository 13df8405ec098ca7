"""How good a score is, on outcomes that it did not see.

Every function takes scores and outcomes (true: converted) of equal length and treats equal scores equally: what a
cut inside a group of ties would take is its share of the group, so that no figure depends on the rows' order.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput

Numbers = Sequence[float] | NDArray[np.float64]
Outcomes = Sequence[bool] | Sequence[int] | NDArray[np.bool_]


def checked(scores: Numbers, outcomes: Outcomes) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Both as arrays.

    Raises:
        InvalidInput: no rows, lengths that differ, or a score that is no finite number.
    """
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(outcomes, dtype=np.bool_)
    if values.ndim != 1 or values.shape != truth.shape or not values.size:
        raise InvalidInput(f"Give one outcome for each score: there are {values.size} and {truth.size}.")
    if not np.isfinite(values).all():
        raise InvalidInput("A score is not a finite number.")
    return values, truth


def roc_auc(scores: Numbers, outcomes: Outcomes) -> float:
    """Chance that a converted lead scores above one that did not, ties half (Hanley and McNeil 1982).

    Raises:
        InvalidInput: only one kind of outcome is there.
    """
    values, truth = checked(scores, outcomes)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        raise InvalidInput("Ranking quality needs leads that converted and leads that did not.")
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2
    ranks = float(midranks[group][truth].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def rate_in_top(scores: Numbers, outcomes: Outcomes, share: float) -> float:
    """Conversion rate among the best `share` of the leads (at least one lead).

    Raises:
        InvalidInput: the share is not within (0, 1].
    """
    values, truth = checked(scores, outcomes)
    if not 0 < share <= 1:
        raise InvalidInput(f"The share of leads must lie within 0 and 1, not {share}.")
    wanted = max(1, math.floor(share * values.size + 1e-9))
    cut = np.partition(values, values.size - wanted)[values.size - wanted]
    above, tied = values > cut, values == cut
    from_tied = (wanted - int(above.sum())) * float(truth[tied].mean())
    return (int(truth[above].sum()) + from_tied) / wanted


def top_decile_lift(scores: Numbers, outcomes: Outcomes) -> float:
    """Conversion rate of the best tenth over that of all (Neslin et al. 2006).

    Raises:
        InvalidInput: no lead converted.
    """
    _, truth = checked(scores, outcomes)
    if not truth.any():
        raise InvalidInput("Lift needs at least one lead that converted.")
    return rate_in_top(scores, outcomes, 0.1) / float(truth.mean())


def expected_calibration_error(probabilities: Numbers, outcomes: Outcomes, bins: int = 10) -> float:
    """Mean gap between stated and actual rate over bins of equal count (Nixon et al. 2019), weighted by count.

    Equal-width bins (Naeini et al. 2015) would put nearly all leads of a rare outcome into one.
    """
    values, truth = checked(probabilities, outcomes)
    edges = np.quantile(values, np.arange(1, bins) / bins)
    group = np.searchsorted(edges, values, side="left")
    gap = np.bincount(group, weights=values - truth, minlength=bins)
    return float(np.abs(gap).sum() / values.size)


def brier(probabilities: Numbers, outcomes: Outcomes) -> float:
    """Mean squared distance of the probability from the outcome (Brier 1950)."""
    values, truth = checked(probabilities, outcomes)
    return float(np.mean((values - truth) ** 2))


def decision_accuracy(scores: Numbers, outcomes: Outcomes, threshold: float) -> float:
    """Share of leads for which "pursue at or above the threshold" was right."""
    values, truth = checked(scores, outcomes)
    return float(np.mean((values >= threshold) == truth))


def escalation_precision(scores: Numbers, outcomes: Outcomes, capacity_share: float) -> float:
    """Share of the escalated leads that converted, when people have time for the best `capacity_share` of them."""
    return rate_in_top(scores, outcomes, capacity_share)
