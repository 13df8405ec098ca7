"""The statistics of an experiment: proportions, their intervals, and how many units a verdict needs."""

import math
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()
ALPHA = 0.05
POWER = 0.8
DETECT = 0.05

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A treatment against a control.

    `difference` is the treatment's share minus the control's (-1 to 1), `interval95` its 95 % confidence
    interval, `p_value` two-sided. Each is None where an arm has no unit yet. `needed_per_arm` is the number
    of units after which a difference of `detect` would be found with 80 % power at the 5 % level.
    """

    difference: float | None
    interval95: Interval | None
    p_value: float | None
    needed_per_arm: int | None
    enough: bool
    significant: bool


def two_proportions(
    successes: int, trials: int, control_successes: int, control_trials: int, *, detect: float = DETECT
) -> Comparison:
    """Compares two shares.

    `significant` is said only once both arms hold `needed_per_arm` units: looking again and again and stopping
    at the first p < 0.05 would find differences where there are none. Test: pooled two-proportion z (Fleiss,
    Levin and Paik, Statistical Methods for Rates and Proportions, 3rd ed. 2003, eq. 3.3, without continuity
    correction). Interval: Newcombe 1998 (Statistics in Medicine 17:873-890), method 10, from Wilson's scores.

    Raises ValueError for counts below zero or more successes than trials.
    """
    _check(successes, trials)
    _check(control_successes, control_trials)
    needed = needed_per_arm(control_successes / control_trials, detect) if control_trials else None
    if not trials or not control_trials:
        return Comparison(None, None, None, needed, enough=False, significant=False)
    p_value = _p_value(successes, trials, control_successes, control_trials)
    enough = needed is not None and min(trials, control_trials) >= needed
    return Comparison(
        difference=successes / trials - control_successes / control_trials,
        interval95=_newcombe(successes, trials, control_successes, control_trials),
        p_value=p_value,
        needed_per_arm=needed,
        enough=enough,
        significant=enough and p_value < ALPHA,
    )


def wilson(successes: int, trials: int, *, alpha: float = ALPHA) -> Interval | None:
    """Confidence interval of a share (Wilson 1927, JASA 22:209-212); None without trials."""
    _check(successes, trials)
    if trials == 0:
        return None
    z = _NORMAL.inv_cdf(1 - alpha / 2)
    share = successes / trials
    middle = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def needed_per_arm(control: float, detect: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Units that each of two equal arms needs to find a difference of `detect` from a share of `control`.

    Fleiss, Levin and Paik 2003, eq. 4.14 (two-sided, no continuity correction). Of the two shares at that
    distance the one nearer to a half is taken: it needs more. Raises ValueError where `detect` is not within (0, 0.5].
    """
    if not 0 < detect <= 0.5:
        raise ValueError(f"detect is a difference of shares within (0, 0.5], not {detect}")
    other = control + detect if control <= 0.5 else control - detect
    mean = (control + other) / 2
    z_alpha, z_power = _NORMAL.inv_cdf(1 - alpha / 2), _NORMAL.inv_cdf(power)
    under_none = z_alpha * math.sqrt(2 * mean * (1 - mean))
    under_some = z_power * math.sqrt(control * (1 - control) + other * (1 - other))
    return math.ceil(((under_none + under_some) / detect) ** 2)


def _check(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials cannot be")


def _p_value(x1: int, n1: int, x2: int, n2: int) -> float:
    pooled = (x1 + x2) / (n1 + n2)
    error = math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    if error == 0:
        return 1.0
    return 2 * _NORMAL.cdf(-abs(x1 / n1 - x2 / n2) / error)


def _newcombe(x1: int, n1: int, x2: int, n2: int) -> Interval:
    first, second = wilson(x1, n1), wilson(x2, n2)
    if first is None or second is None:
        raise ValueError("an interval needs trials in both arms")
    p1, p2 = x1 / n1, x2 / n2
    below = math.hypot(p1 - first[0], second[1] - p2)
    above = math.hypot(first[1] - p1, p2 - second[0])
    return p1 - p2 - below, p1 - p2 + above
