"""What a run of the gate found: written as JSON, read by the report, by comparisons and by the capacity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError


class Kind(StrEnum):
    """What is asked for. A name is the tag `kind` of the requests in k6, too."""

    LEAD = "lead"
    CHAT = "chat"
    """A question that nobody has asked before, answered whole."""
    STREAM = "stream"
    """The same, streamed."""
    KNOWN = "known"
    """A question that has been answered before, answered whole from the cache."""
    KNOWN_STREAM = "known-stream"
    DOCUMENT = "document"
    BATCH = "batch"
    QUESTION = "question"
    """The four kinds of questions together: never sent, and among no scenario's `endpoints`."""


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of times in seconds. `p99_s` is None where there were too few samples for it."""

    count: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float | None
    worst_s: float


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """`good`: answered without an error and within the phase's time (goodput). Answer: the whole request.

    `own`: seen from outside, the time of a question without its model calls (all of it where a cache answered).
    """

    kind: Kind
    asked: int
    failed: int
    good: int
    answer: Quantiles | None
    first_token: Quantiles | None = None
    own: Quantiles | None = None


@dataclass(frozen=True, slots=True)
class PartUse:
    """What one part used: `cpu_s` seconds of processor in all its processes, `memory_mib` at its peak."""

    part: str
    cpu_s: float
    machine_share: float
    memory_mib: float


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Check:
    """One threshold. `seen` None: nothing was measured. `why`: of what was not judged, and of a failure, a sentence.

    Args:
        name: unique in its scenario, such as `stream answer p99`.
        unit: `s`, `%`, `requests`.
    """

    name: str
    limit: float
    seen: float | None
    unit: str
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """`factor`: times the replica's share that was asked for. `dropped`: iterations that k6 could not begin in time.

    Times of day are seconds since 1970. `own_share`: the wall time of requests without the union of their model calls.
    `aborted`: why it was ended early, empty where it was not. `errors`: the kinds of failures with their counts.
    `questions`: all kinds of questions as one endpoint (`Kind.QUESTION`).
    """

    name: str
    factor: float
    began: float
    ended: float
    endpoints: tuple[EndpointResult, ...]
    dropped: int
    own_share: Quantiles | None
    parts: tuple[PartUse, ...]
    checks: tuple[Check, ...]
    model_calls: int
    errors: Mapping[str, int] = field(default_factory=dict)
    aborted: str = ""
    questions: EndpointResult | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure beside the accepted baseline's, or beside another revision's in pairs of runs.

    `ratio`: the geometric mean of the pairs' ratios, above 1 where more is taken now. `tolerance`: how far above 1 it
    may be, from the noise of the pairs (`loadtest.compare`). `worse`: it is further.
    """

    figure: str
    baseline: float
    now: float
    ratio: float
    tolerance: float
    unit: str
    worse: bool


@dataclass(frozen=True, slots=True)
class GateResult:
    """`replicas`: over how many the phase's load was divided. `machine`: processor, cores, kernel.

    `reference_s`: seconds of processor of `loadtest.compare.reference_s()` on that machine, taken by the gate before
    its first scenario; None: not measured, and no figure is compared with another machine's.
    """

    phase: str
    revision: str
    machine: str
    replicas: int
    began: float
    ended: float
    backends: Mapping[str, str]
    scenarios: tuple[ScenarioResult, ...]
    compared: tuple[Compared, ...] = ()
    notes: tuple[str, ...] = ()
    reference_s: float | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each threshold that was missed and each figure that got worse."""
        missed = [
            f"{scenario.name}: {check.name} {check.why}"
            for scenario in self.scenarios
            for check in scenario.checks
            if check.outcome is Outcome.FAILED
        ]
        worse = [f"{each.figure} is {each.ratio:.2f} times the baseline" for each in self.compared if each.worse]
        return (*missed, *worse)

    @property
    def passed(self) -> bool:
        return not self.failures


_RESULT: Final = TypeAdapter(GateResult)


def write(result: GateResult, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_RESULT.dump_json(result, indent=1) + b"\n")


def read(path: Path) -> GateResult:
    """Raises ValueError where the file is none of ours."""
    try:
        return _RESULT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ValueError(f"{path} holds no result of the gate: {error}") from error
