"""What treatments brought: customers who were treated against those who were held back by chance."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from app.governance.stats import ALPHA, Comparison, Interval, two_proportions

LEAST: Final = 30
"""Customers in each arm before an interval of money is told: means of fewer skewed amounts are far from normal."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Customers whose outcome is known: how many, how many succeeded, the sum of what they brought (in any one unit of
    money) and of its squares. An arm that holds all who were decided on, treated or not, is compared as intended."""

    customers: int
    successes: int
    value: float
    value_squares: float

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.customers:
            raise ValueError(f"{self.successes} successes of {self.customers} customers cannot be")

    @property
    def mean(self) -> float | None:
        return self.value / self.customers if self.customers else None

    @property
    def variance(self) -> float | None:
        """Of one customer's value; None for fewer than two customers."""
        if self.customers < 2:
            return None
        squares = self.value_squares - self.value * self.value / self.customers
        return max(0.0, squares) / (self.customers - 1)


@dataclass(frozen=True, slots=True)
class Uplift:
    """`success` compares the shares that succeeded. `value` is what a treated customer brought more than one held back,
    on average, and `value_interval95` its 95 % interval; None where too few are known.

    `enough`: both arms hold as many customers as `success.needed_per_arm` says. `note` is the verdict in a sentence.
    """

    success: Comparison
    value: float | None
    value_interval95: Interval | None
    enough: bool
    note: str


def uplift(treated: Arm, control: Arm) -> Uplift:
    """Compares two arms. Of everyone who was decided on against everyone held back (intention to treat) the difference
    is what the run caused; of those given one treatment, chosen for them, it also holds who was chosen.

    Shares: Newcombe's interval (`governance.stats.two_proportions`). Money: Welch 1947 (Biometrika 34:28-35), with at
    least 30 customers in each arm.
    """
    success = two_proportions(treated.successes, treated.customers, control.successes, control.customers)
    difference = None
    if treated.mean is not None and control.mean is not None:
        difference = treated.mean - control.mean
    return Uplift(success, difference, _welch(treated, control), success.enough, _note(treated, control, success))


def _welch(treated: Arm, control: Arm) -> Interval | None:
    if min(treated.customers, control.customers) < LEAST:
        return None
    means, parts = [], []
    for arm in (treated, control):
        if arm.mean is None or arm.variance is None:
            return None
        means.append(arm.mean)
        parts.append((arm.variance / arm.customers, arm.customers - 1))
    error = sum(part for part, _ in parts)
    if error == 0:
        return means[0] - means[1], means[0] - means[1]
    freedom = error**2 / sum(part**2 / least for part, least in parts)
    half = student(1 - ALPHA / 2, freedom) * math.sqrt(error)
    return means[0] - means[1] - half, means[0] - means[1] + half


def student(share: float, freedom: float) -> float:
    """The quantile of Student's t, to four digits from 10 degrees on (Abramowitz and Stegun 1964, 26.7.5)."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _note(treated: Arm, control: Arm, success: Comparison) -> str:
    counts = f"{treated.customers} treated, {control.customers} held back"
    if success.difference is None or success.interval95 is None:
        return f"Too few to say anything ({counts}): both arms need customers whose outcome is known."
    low, high = (100 * end for end in success.interval95)
    figures = f"{100 * success.difference:+.1f} points of success (95 %: {low:+.1f} to {high:+.1f}; {counts})"
    if not success.enough:
        return f"Too few for a verdict: {figures}; each arm needs {success.needed_per_arm}."
    if not success.significant:
        return f"No difference is shown: {figures}."
    return f"{'Better' if success.difference > 0 else 'Worse'} than without treatment: {figures}."
