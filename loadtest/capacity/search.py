"""Where one replica leaves its targets: the next rate to try, from what was seen so far. Pure, so it can go on later.

Geometric steps up (or down) until one rate is in and one is out, then bisection in the middle of their logarithms,
until the two are as near as the resolution. Load-dependent delay grows without bound towards saturation (any open
queue), so that between a rate that is well within and one that is out there are few that are neither.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.capacity.judge import Look

LOOKS: Final = 3
"""At one rate, at most."""
MAJORITY: Final = 2


@dataclass(frozen=True, slots=True)
class Search:
    """Rates are factors of the replica's share.

    Args:
        first: the rate of the first step.
        growth: of the geometric steps.
        resolution: how far apart, relatively, the last two rates may be.
        lowest, highest: nothing below or above is tried.
    """

    first: float
    growth: float = 2.0
    resolution: float = 0.25
    lowest: float = 0.0
    highest: float = math.inf

    def __post_init__(self) -> None:
        if not (self.growth > 1 and self.resolution > 0 and self.lowest <= self.first <= self.highest):
            raise ValueError("A search grows by more than 1, ends at a resolution above 0 and begins within its ends.")


@dataclass(frozen=True, slots=True)
class Trial:
    """One step that was made."""

    factor: float
    look: Look


@dataclass(frozen=True, slots=True)
class Edge:
    """`low`: the highest rate that is within below every one that is out; 0: none. `high`: the lowest that is out,
    None: none. `pending`: a rate at which one more look is needed."""

    low: float
    high: float | None
    pending: float | None


def decided(looks: Sequence[Look]) -> bool | None:
    """Whether the rate is within; None: look again.

    A burst of something else on the machine only ever makes an answer slower. So one step within is believed, and one
    that is out is tried again. What three looks do not settle is what most of them saw.
    """
    sure = [look.within for look in looks if look.sure]
    lead = sure.count(True) - sure.count(False)
    if lead > 0:
        return True
    if -lead >= MAJORITY:
        return False
    if len(looks) < LOOKS:
        return None
    return 2 * sum(look.within for look in looks) > len(looks)


def edge(trials: Iterable[Trial]) -> Edge:
    by_rate: dict[float, list[Look]] = {}
    for trial in trials:
        by_rate.setdefault(trial.factor, []).append(trial.look)
    verdicts: Mapping[float, bool | None] = {factor: decided(looks) for factor, looks in by_rate.items()}
    high = min((factor for factor, within in verdicts.items() if within is False), default=None)
    low = max((f for f, within in verdicts.items() if within and (high is None or f < high)), default=0.0)
    return Edge(low, high, next((factor for factor, within in verdicts.items() if within is None), None))


def next_factor(search: Search, trials: Sequence[Trial]) -> float | None:
    """The rate of the next step; None: the edge is found, or lies beyond what may be tried."""
    found = edge(trials)
    if found.pending is not None:
        return found.pending
    if not trials:
        return search.first
    if found.high is None:
        return min(found.low * search.growth, search.highest) if found.low < search.highest else None
    if not found.low:
        return max(found.high / search.growth, search.lowest) if found.high > search.lowest > 0 else None
    return math.sqrt(found.low * found.high) if found.high > found.low * (1 + search.resolution) else None
