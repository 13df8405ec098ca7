"""From a score to a decision: the two thresholds, fitted on scores whose outcomes are known."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.packs.leads.scoring.metrics import Numbers, Outcomes, checked


@dataclass(frozen=True, slots=True)
class Economics:
    """What a contact costs and what a conversion brings, in the same unit: by default it pays from 1 in 20 on.

    Raises:
        InvalidInput: either is not above zero.
    """

    contact_cost: float = 1.0
    conversion_benefit: float = 20.0

    def __post_init__(self) -> None:
        if not (self.contact_cost > 0 and self.conversion_benefit > 0):
            raise InvalidInput("The cost of a contact and the benefit of a conversion must both be above zero.")

    @property
    def break_even(self) -> float:
        """The conversion rate at which a contact pays for itself."""
        return self.contact_cost / self.conversion_benefit


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Pursue a lead at or above `pursue`; hand it to a person at or above `escalate`."""

    pursue: float
    escalate: float


def fit_thresholds(
    scores: Numbers, outcomes: Outcomes, capacity_share: float, economics: Economics | None = None
) -> Thresholds:
    """Fit both thresholds on leads whose outcomes are known and that the score was not fitted on.

    `pursue` maximises the value of the contacts made: benefit x conversions - cost x contacts (for a calibrated
    score this is cost / benefit, Elkan 2001). `escalate` is the lowest score that no more than `capacity_share`
    of the leads reach. Where no contact pays, or one tie is larger than the capacity, the threshold lies just
    above every score.

    Raises:
        InvalidInput: lengths differ, no rows, or the share is not within 0 and 1.
    """
    values, truth = checked(scores, outcomes)
    if not 0 <= capacity_share <= 1:
        raise InvalidInput(f"The capacity must lie within 0 and 1, not {capacity_share}.")
    money = economics or Economics()
    cuts, reached, converted = _by_cut(values, truth)
    value = money.conversion_benefit * converted - money.contact_cost * reached
    best = int(np.argmax(value))
    none = math.nextafter(float(values.max()), math.inf)
    within = np.flatnonzero(reached <= capacity_share * values.size)
    return Thresholds(
        pursue=float(cuts[best]) if value[best] > 0 else none,
        escalate=float(cuts[within[-1]]) if within.size else none,
    )


def value_per_lead(scores: Numbers, outcomes: Outcomes, threshold: float, economics: Economics) -> float:
    """Mean value over all leads of contacting those at or above the threshold, in the unit of the economics."""
    values, truth = checked(scores, outcomes)
    contacted = values >= threshold
    converted = int((contacted & truth).sum())
    total = economics.conversion_benefit * converted - economics.contact_cost * int(contacted.sum())
    return total / values.size


def _by_cut(
    values: NDArray[np.float64], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Each distinct score, highest first, with the leads at or above it and the conversions among them."""
    cuts, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    conversions = np.bincount(group[truth], minlength=cuts.size)
    return cuts[::-1], np.cumsum(counts[::-1]), np.cumsum(conversions[::-1])
