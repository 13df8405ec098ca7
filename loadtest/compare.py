"""Whether one revision takes more than another: ratios of runs that belong together, and what of them may be noise.

Times that were measured on different machines, or at different hours of one, are never compared. Two ways are left:

- Pairs (`compared`): both revisions run in turn on one machine (`loadtest.pairs`). The mean of the logarithms of a
  figure's ratios has a confidence interval by Student's t, as is advised for few repetitions of a benchmark (Georges,
  Buytaert, Eeckhout: Statistically rigorous Java performance evaluation, OOPSLA 2007; Kalibera, Jones: Rigorous
  benchmarking in reasonable time, ISMM 2013). A figure got worse where the whole interval lies above 1. All figures
  together raise a false alarm in at most `FALSE_ALARMS` of comparisons (Bonferroni: each gets its part of it).
- The accepted baseline (`against`): only figures that no clock has given, and processor time counted in runs of a loop
  that is timed on the same machine (`reference_s`). Its scenarios are the pairs.
"""

import hashlib
import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from scipy import stats

from loadtest.results import Compared, GateResult, ScenarioResult, read, write

BASELINES: Final = Path(__file__).parent / "baselines"
FALSE_ALARMS: Final = 0.05
MATERIAL: Final = 0.05
"""A figure that is worse by less is let through, however sure it is."""
OTHER_DAY: Final = 0.25
"""The same for processor time beside the accepted baseline. Two calls of `reference_s` on a busy machine were 15 %
apart, which all pairs share and none shows; the rest is for another machine's caches, by judgement."""
LEAST_PAIRS: Final = 3
"""Fewer say nothing of noise."""
WANTED: Final = 0.3
"""A slowdown that a comparison should find."""
OURS: Final = ("api", "worker")
_ROUNDS: Final = 7
_TURNS: Final = 2_000


class BaselineError(ValueError):
    """The baseline cannot be read, or not be made of this result. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both revisions, of runs that belong together; neither is 0."""

    baseline: float
    now: float


@dataclass(frozen=True, slots=True)
class Figure:
    """`least`: by how much it must be worse to matter."""

    name: str
    unit: str
    pairs: tuple[Pair, ...]
    least: float = MATERIAL


def compared(figures: Sequence[Figure], false_alarms: float = FALSE_ALARMS) -> tuple[Compared, ...]:
    """Each figure of at least three pairs. `false_alarms`: how often any of them is called worse where none is."""
    judged = [figure for figure in figures if len(figure.pairs) >= LEAST_PAIRS]
    return tuple(_compared(figure, false_alarms / len(judged)) for figure in judged)


def _compared(figure: Figure, false_alarms: float) -> Compared:
    logs = [math.log(pair.now / pair.baseline) for pair in figure.pairs]
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    noise = math.expm1(float(stats.t.ppf(1 - false_alarms, len(logs) - 1)) * error)
    ratio, tolerance = math.exp(statistics.fmean(logs)), max(figure.least, noise)
    return Compared(
        figure=figure.name,
        baseline=statistics.median(pair.baseline for pair in figure.pairs),
        now=statistics.median(pair.now for pair in figure.pairs),
        ratio=ratio,
        tolerance=tolerance,
        unit=figure.unit,
        worse=ratio > 1 + tolerance,
    )


def paired(name: str, unit: str, both: Sequence[tuple[float | None, float | None]], least: float = MATERIAL) -> Figure:
    """Of figures of which some are missing or 0: those pairs are left out."""
    return Figure(name, unit, tuple(Pair(was, now) for was, now in both if was and now), least)


def remarks(rows: Sequence[Compared]) -> tuple[str, ...]:
    """Sentences on what the comparison cannot see."""
    blind = [f"{each.figure} ({each.tolerance:.0%})" for each in rows if each.tolerance > WANTED]
    if not blind:
        return ()
    return (f"Too much noise to find a slowdown of {WANTED:.0%} in: {', '.join(blind)}.",)


def baseline_path(phase: str) -> Path:
    return BASELINES / f"{phase}.json"


def accept(result: GateResult, path: Path) -> None:
    """Writes the result as the baseline of later ones. Raises BaselineError for one that tells nothing."""
    if result.reference_s is None or not any("cpu" in takes(each) for each in result.scenarios):
        raise BaselineError(
            "This result cannot be a baseline: the processor time of its parts or of the loop is missing."
        )
    write(replace(result, compared=()), path)


def against(result: GateResult, path: Path) -> tuple[Compared, ...]:
    """Beside the accepted baseline, over the scenarios that both have; nothing where there is none.

    Raises BaselineError where the file is no result of the gate.
    """
    if not path.exists():
        return ()
    try:
        was = read(path)
    except ValueError as error:
        raise BaselineError(f"The baseline cannot be compared with: {error}") from error
    if was.reference_s is None or result.reference_s is None:
        return ()
    both = list(_common(was, result))
    runs = [
        (takes(old).get("cpu", 0.0) / was.reference_s, takes(new).get("cpu", 0.0) / result.reference_s)
        for old, new in both
    ]
    calls = [(takes(old).get("calls"), takes(new).get("calls")) for old, new in both]
    return compared(
        [
            paired("processor of a request", "reference loops", runs, OTHER_DAY),
            paired("model calls of a question", "calls", calls),
        ]
    )


def _common(was: GateResult, now: GateResult) -> Iterator[tuple[ScenarioResult, ScenarioResult]]:
    """Scenarios of the same name and load that ran to their end."""
    old = {(each.name, each.factor): each for each in was.scenarios if not each.aborted}
    for each in now.scenarios:
        if (each.name, each.factor) in old and not each.aborted:
            yield old[each.name, each.factor], each


def takes(scenario: ScenarioResult) -> Mapping[str, float]:
    """`cpu`: seconds of processor of the app's processes for a request; `calls`: of the model for a question."""
    asked = sum(endpoint.asked for endpoint in scenario.endpoints)
    cpu = sum(part.cpu_s for part in scenario.parts if part.part.startswith(OURS))
    questions = scenario.questions.asked if scenario.questions else 0
    found = {"cpu": cpu / asked if asked else 0.0, "calls": scenario.model_calls / questions if questions else 0.0}
    return {name: value for name, value in found.items() if value}


def reference_s() -> float:
    """Seconds of processor that a fixed piece of work takes here: JSON, hashes and dictionaries, as a request does.

    The least of several rounds: what disturbs a round only ever makes it longer.
    """
    return min(_round() for _ in range(_ROUNDS))


def _round() -> float:
    began = time.thread_time()
    held: dict[str, object] = {}
    for number in range(_TURNS):
        text = json.dumps({"number": number, "words": [f"word {each}" for each in range(40)]})
        held[hashlib.sha256(text.encode()).hexdigest()] = json.loads(text)
    sorted(held)
    return time.thread_time() - began
