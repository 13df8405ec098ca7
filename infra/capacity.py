"""What one replica was measured to carry, and whether a phase's replicas carry what the phase promises.

The figures are in `capacity.json`, which `make capacity` writes. No Pulumi, no YAML, no app."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from infra.errors import InfraError
from infra.phases import PHASES, Phase, PhaseName, Pod

FILE: Final = Path(__file__).parent / "capacity.json"
_ROUNDING: Final = 1e-9
_COMMAND: Final = "make capacity PHASE={phase}"


@dataclass(frozen=True, slots=True)
class Measured:
    """The highest rate at which one replica kept the phase's targets, asked for all kinds at once.

    Args:
        questions_s, leads_s: so many of each in a second, together.
        left_by: what left its target first at the next higher rate, a sentence.
        api_cores, worker_cores: cores that the two processes used at this rate, in the mean.
        cores: of the machine, shared with databases, the model's stub and k6.
        measured: the day, as 2026-11-22.
        beyond: which of the phase's targets the model alone leaves, so that they were not counted; empty: none.
    """

    questions_s: float
    leads_s: float
    left_by: str
    api_cores: float
    worker_cores: float
    cores: int
    machine: str
    measured: str
    command: str
    beyond: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison, in requests a second: `replicas` of `who`, of which each is sure to carry `each`, must carry
    `wanted`, which is `headroom` times the phase's load of `what`."""

    phase: PhaseName
    what: str
    who: str
    replicas: int
    each: float
    wanted: float
    headroom: int

    @property
    def carried(self) -> float:
        return self.replicas * self.each

    @property
    def needed(self) -> int | None:
        """How many would carry it; None where no number does."""
        # Equal shares of a whole may lack its last digit.
        return math.ceil(self.wanted / self.each * (1 - _ROUNDING)) if self.each else None

    @property
    def enough(self) -> bool:
        return self.needed is not None and self.replicas >= self.needed

    @property
    def sentence(self) -> str:
        times = f"{self.headroom} times " if self.headroom > 1 else ""
        more = f"take {self.needed}" if self.needed is not None else "no number of them is enough: take others"
        return (
            f"The phase '{self.phase}' is to carry {times}{self.wanted / self.headroom:,.3g} {self.what} a second, and "
            f"its {self.replicas} {self.who} carry {self.carried:,.3g}, {self.each:,.3g} each within the promised CPU: "
            f"{more} or promise more CPU, in infra/phases.py, or make a request cheaper and measure again "
            f"({_COMMAND.format(phase=self.phase)})."
        )


def load(file: Path = FILE) -> Mapping[PhaseName, Measured]:
    """By phase; those that were not measured are absent. Raises InfraError for a file that is not one."""
    try:
        found = json.loads(file.read_text())
        return {PhaseName(name): _measured(given) for name, given in found.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InfraError(
            f"{file.name} cannot be used: {str(error).splitlines()[0]}. `make capacity PHASE=` writes it."
        ) from None


def _measured(given: Mapping[str, Any]) -> Measured:
    one = Measured(**given)
    for field in fields(Measured):
        value = getattr(one, field.name)
        if field.type is not str and not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise ValueError(f"'{field.name}' is {value!r} and has to be a number from 0")
    return one


def within(rate: float, pod: Pod, cores: float) -> float:
    """What of a measured rate a pod is sure of: it used `cores`, and the pod is promised `pod.cpu` of a thousand each.

    A rate that left its targets for another reason than CPU is never counted up.
    """
    return rate * min(1.0, pod.cpu / 1000 / cores) if cores else rate


def lines(phase: Phase, measured: Measured) -> Iterable[Line]:
    """Every comparison of a phase: the fewest replicas carry the load, the most carry it `headroom` times.

    Leads come in through the API and are decided by workers, so there is a line of their own for workers.
    """
    api, worker = _share(phase, phase.api, measured.api_cores), _share(phase, phase.worker, measured.worker_cores)
    least, most, times = phase.fleet.least, phase.fleet.most, phase.headroom
    for what, rate, wanted in (
        ("questions", measured.questions_s, phase.load.questions_s),
        ("leads", measured.leads_s, phase.load.leads_s),
    ):
        yield Line(phase.name, what, "replicas at the least", least, api(rate), wanted, 1)
        if times is not None:
            yield Line(phase.name, what, "replicas at the most", most, api(rate), wanted * times, times)
    if times is not None and phase.server is not None:
        each, wanted = worker(measured.leads_s), phase.load.leads_s * times
        yield Line(phase.name, "leads", "workers at the most", phase.server.workers, each, wanted, times)


def _share(phase: Phase, pod: Pod, cores: float) -> Callable[[float], float]:
    """Without a cluster nothing is shared out: the process has its machine."""
    return (lambda rate: rate) if phase.nodes is None else (lambda rate: within(rate, pod, cores))


def carried(phases: Iterable[PhaseName], file: Path = FILE) -> Mapping[PhaseName, tuple[Line, ...]]:
    """The comparisons of each phase; none of one that was not measured. Raises InfraError as `load` does."""
    found = load(file)
    return {name: tuple(lines(PHASES[name], found[name])) if name in found else () for name in phases}


def short(of: Mapping[PhaseName, tuple[Line, ...]]) -> list[str]:
    """A sentence for each comparison that fails."""
    return [line.sentence for every in of.values() for line in every if not line.enough]


def beyond(of: Iterable[PhaseName], file: Path = FILE) -> list[str]:
    """A sentence for each phase whose promise no number of replicas keeps. Raises InfraError as `load` does."""
    found = load(file)
    return [found[name].beyond for name in of if name in found and found[name].beyond]


def unmeasured(of: Mapping[PhaseName, tuple[Line, ...]]) -> list[str]:
    """A sentence for each phase that nobody has measured."""
    return [
        f"What one replica of '{name}' carries was not measured: {_COMMAND.format(phase=name)}."
        for name, every in of.items()
        if not every
    ]
