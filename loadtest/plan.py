"""What is asked of one replica, how often and for how long, and what must come of it. All from the phase; pure.

The arrivals are an open model: requests come at their rate however late the answers are. A closed one (so many users
who each wait) slows down together with what it measures, and hides it (Schroeder, Wierman, Harchol-Balter: Open versus
closed, a cautionary tale, NSDI 2006).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from infra.phases import WORKING_S, Phase
from loadtest.results import Kind

SHARES: Final[Mapping[Kind, float]] = MappingProxyType(
    {Kind.CHAT: 0.3, Kind.STREAM: 0.3, Kind.KNOWN: 0.2, Kind.KNOWN_STREAM: 0.2}
)
"""Of all questions. A help desk sees the same questions again; two in five is what the answer cache is there for."""
RENEWED_A_MONTH: Final = 0.05
"""The share of its documents that a phase takes in anew each month, in working hours."""
DOCUMENT_EVERY_S: Final = 30.0
"""At least one document in so long, so that taking in is always under way in what is measured."""
BATCH_EVERY_S: Final = 60.0
BATCH_LEADS: Final = 5

P99_SAMPLES: Final = 1_000
"""Ten answers are then slower than the p99; with fewer it is a guess about one or two of them."""
P50_SAMPLES: Final = 20
"""As many beyond the median as beyond the p99 of a thousand."""
WARM_UP_S: Final = 5.0
"""At the rate that follows, not judged: connections are opened, caches and pools filled."""
SMOKE_S: Final = 10.0
BRIEF_S: Final = 40.0
LONGEST_S: Final = 700.0
SPARE: Final = 1.02
"""More samples than are wanted, for those that fail or are late."""
REPLAY: Final = "replay"
"""The scenario that `loadtest.trace` makes."""
SOAK_S: Final = 3_600.0
REPLAY_S: Final = 600.0
BEATS: Final = (2.0, 5.0)
"""Times the share, of the stress scenarios."""
HOPELESS: Final = 4.0
"""A run is ended where half of the answers take so many times what the slowest of a hundred may."""


@dataclass(frozen=True, slots=True)
class Stage:
    """`factor` times the rates for `seconds`, from its first moment on."""

    factor: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load.

    Args:
        rates: requests a second of each kind at factor 1.
        promised: whether the phase promises its targets under this load; what is not promised is measured, not judged.
        warm_s: the first so many seconds of the first stage, measured by nobody.
        lengths: of a replayed trace, in the order of questions: words of the question and of the answer.
    """

    name: str
    rates: Mapping[Kind, float]
    stages: tuple[Stage, ...]
    promised: bool = True
    warm_s: float = WARM_UP_S
    lengths: tuple[tuple[int, int], ...] = ()

    @property
    def factor(self) -> float:
        return max(stage.factor for stage in self.stages)

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    def expected(self, *kinds: Kind) -> float:
        """Requests of these kinds (of all where none is named) that are measured, if none is dropped."""
        rate = sum(self.rates[kind] for kind in kinds or self.rates)
        return rate * (sum(each.factor * each.seconds for each in self.stages) - self.warm_s * self.stages[0].factor)


class Figure(StrEnum):
    ANSWER_P50 = "answer p50"
    ANSWER_P99 = "answer p99"
    FAILED = "failed"
    OWN_P99 = "own share p99"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a figure may be at most: seconds, a share of 1, or a count. `kind` None: of everything."""

    figure: Figure
    kind: Kind | None
    limit: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.figure}" if self.kind else str(self.figure)


def mix(phase: Phase) -> Mapping[Kind, float]:
    """Requests a second of each kind for one replica: the region's load over the least replicas that it has."""
    replicas, load = phase.fleet.least, phase.load
    questions = {kind: load.questions_s * share / replicas for kind, share in SHARES.items()}
    documents = load.documents * RENEWED_A_MONTH / WORKING_S / replicas
    others = {
        Kind.LEAD: load.leads_s / replicas,
        Kind.DOCUMENT: max(documents, 1 / DOCUMENT_EVERY_S),
        Kind.BATCH: 1 / BATCH_EVERY_S,
    }
    return MappingProxyType(questions | others)


def questions_s(rates: Mapping[Kind, float]) -> float:
    """Questions in a second, of all kinds."""
    return sum(rates[kind] for kind in SHARES)


def promised(phase: Phase, factor: float) -> bool:
    """Whether the phase promises its targets at so many times its load."""
    return factor <= (phase.headroom or 1)


def steady(name: str, rates: Mapping[Kind, float], factor: float, seconds: float) -> Scenario:
    """One load that does not change, `seconds` after its warm-up."""
    return Scenario(name, rates, (Stage(factor, WARM_UP_S + seconds),))


def measured_s(rates: Mapping[Kind, float], factor: float) -> float:
    """Seconds until a p99 of the questions can be judged; a brief look where that takes longer than a gate may."""
    wanted = math.ceil(P99_SAMPLES * SPARE / (questions_s(rates) * factor))
    return float(max(wanted, BRIEF_S)) if wanted <= LONGEST_S else BRIEF_S


def scenarios(phase: Phase) -> tuple[Scenario, ...]:
    """What the gate runs where nothing else is asked for, the lightest first."""
    rates = mix(phase)
    average = steady("average", rates, 1.0, measured_s(rates, 1.0))
    return (smoke(rates), average, *(_stress(phase, rates, factor) for factor in BEATS), _spike(phase, rates))


def smoke(rates: Mapping[Kind, float]) -> Scenario:
    """A few requests of every kind at least, so that what is broken is found within seconds."""
    few = {kind: max(rate, 3 / SMOKE_S) for kind, rate in rates.items()}
    return Scenario("smoke", MappingProxyType(few), (Stage(1.0, SMOKE_S),), warm_s=0.0)


def soak(phase: Phase) -> Scenario:
    """The share for an hour: what grows shows itself."""
    return steady("soak", mix(phase), 1.0, SOAK_S)


def chosen(phase: Phase, names: Sequence[str], replayed: Scenario | None = None) -> tuple[Scenario, ...]:
    """The scenarios of these names; the default ones where none is given. `stress` stands for all of its factors.

    Raises ValueError naming one that does not exist.
    """
    every = (*scenarios(phase), soak(phase), *([replayed] if replayed else []))
    if not names:
        return scenarios(phase)
    for name in names:
        if not any(_means(name, each) for each in every):
            known = ", ".join(dict.fromkeys([*(each.name for each in every), "stress", REPLAY]))
            raise ValueError(f"There is no scenario '{name}': choose of {known}.")
    return tuple(each for each in every if any(_means(name, each) for name in names))


def thresholds(phase: Phase, scenario: Scenario) -> tuple[Threshold, ...]:
    """What must hold in the scenario, by endpoint and for all questions together."""
    targets = phase.targets
    found = [Threshold(Figure.DROPPED, None, 0), Threshold(Figure.FAILED, None, targets.failed_share)]
    for kind in (Kind.QUESTION, *scenario.rates):
        found.append(Threshold(Figure.ANSWER_P50, kind, targets.answer_p50_s))
        if targets.answer_p99_s is not None:
            found.append(Threshold(Figure.ANSWER_P99, kind, targets.answer_p99_s))
        if kind is not Kind.QUESTION:
            found.append(Threshold(Figure.FAILED, kind, targets.failed_share))
    found.append(Threshold(Figure.OWN_P99, Kind.QUESTION, targets.own_share_p99_s))
    found.append(Threshold(Figure.OWN_P99, None, targets.own_share_p99_s))
    return tuple(found)


def hopeless_s(phase: Phase) -> float:
    """Seconds; where half of the answers take longer, nothing more is learnt by going on."""
    return HOPELESS * (phase.targets.answer_p99_s or phase.targets.answer_p50_s)


def _stress(phase: Phase, rates: Mapping[Kind, float], factor: float) -> Scenario:
    held = promised(phase, factor)
    seconds = measured_s(rates, factor) if held else BRIEF_S
    return replace(steady(f"stress-{factor:g}x", rates, factor, seconds), promised=held)


def _spike(phase: Phase, rates: Mapping[Kind, float]) -> Scenario:
    """From the share to the headroom in one moment, and back."""
    factor = float(phase.headroom or BEATS[0])
    stages = (Stage(1.0, WARM_UP_S + 10), Stage(factor, 10), Stage(1.0, 15))
    return Scenario("spike", rates, stages, promised(phase, factor))


def _means(name: str, scenario: Scenario) -> bool:
    return scenario.name == name or scenario.name.startswith(f"{name}-")
