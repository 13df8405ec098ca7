"""Judges what was measured by the phase's thresholds. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from infra.phases import Phase
from loadtest.k6 import Run
from loadtest.measure import K6 as K6_PART
from loadtest.measure import REST
from loadtest.plan import P50_SAMPLES, P99_SAMPLES, Figure, Threshold, thresholds
from loadtest.results import Check, EndpointResult, Kind, Outcome, PartUse, Quantiles

DOUBTFUL: Final = 0.25
"""Of the machine, for k6, the model's stub or what is no part of this: above it the service waits for them."""
FULL: Final = 0.9
"""Of the machine, all parts together: above it more cores would give other figures."""
WHOLE: Final = "run to the end"
K6: Final = "thresholds of k6"
OTHERS: Final = (K6_PART, "model stub", REST)


def judge(run: Run, phase: Phase, own: Quantiles | None) -> tuple[Check, ...]:
    """A check for each threshold. `own`: our share of decisions and answers as the app measured it."""
    seen = {each.kind: each for each in (*run.endpoints(phase), run.questions(phase))}
    found = [_check(each, seen, run.dropped, own) for each in thresholds(phase, run.scenario)]
    if run.aborted:
        found.append(Check(WHOLE, 0, 1, "requests", Outcome.FAILED, f"was hopeless: {run.aborted} did not hold"))
    if not run.scenario.promised:
        return tuple(_unpromised(each, phase, run.scenario.factor) for each in found)
    return (*found, *_crossed(run, found))


def doubts(scenario: str, parts: Iterable[PartUse]) -> Sequence[str]:
    """Sentences on what makes the figures doubtful: what measures took too much, or there was no machine left."""
    used = {part.part: part.machine_share for part in parts}
    greedy = [
        f"{scenario}: {part} used {used[part]:.0%} of the machine: the times are partly its own."
        for part in OTHERS
        if used.get(part, 0.0) > DOUBTFUL
    ]
    total = sum(used.values())
    full = f"{scenario}: everything together used {total:.0%} of the machine: with more of it the times would be lower."
    return [*greedy, *([full] if total > FULL else [])]


def _check(threshold: Threshold, seen: dict[Kind, EndpointResult], dropped: int, own: Quantiles | None) -> Check:
    if threshold.figure is Figure.DROPPED:
        return _judged(threshold, dropped, "requests")
    if threshold.figure is Figure.FAILED:
        return _failed(threshold, [seen[threshold.kind]] if threshold.kind else _each(seen))
    return _timed(threshold, _times(threshold, seen, own))


def _times(threshold: Threshold, seen: dict[Kind, EndpointResult], own: Quantiles | None) -> Quantiles | None:
    if threshold.kind is None:
        return own
    endpoint = seen[threshold.kind]
    return endpoint.own if threshold.figure is Figure.OWN_P99 else endpoint.answer


def _each(seen: dict[Kind, EndpointResult]) -> Sequence[EndpointResult]:
    return [each for kind, each in seen.items() if kind is not Kind.QUESTION]


def _failed(threshold: Threshold, endpoints: Sequence[EndpointResult]) -> Check:
    asked, failed = sum(each.asked for each in endpoints), sum(each.failed for each in endpoints)
    if not asked:
        return _unjudged(threshold, None, "%", "nothing was asked")
    return _judged(threshold, failed / asked, "%", f" ({failed} of {asked})")


def _timed(threshold: Threshold, times: Quantiles | None) -> Check:
    middle = threshold.figure is Figure.ANSWER_P50
    least, count = (P50_SAMPLES if middle else P99_SAMPLES), times.count if times else 0
    value = None if times is None else times.p50_s if middle else times.p99_s
    if value is None or count < least:
        return _unjudged(threshold, value, "s", f"{count:,} of the {least:,} samples that it takes")
    return _judged(threshold, value, "s")


def _judged(threshold: Threshold, value: float, unit: str, of: str = "") -> Check:
    limit, seen = _shown(threshold.limit, unit), _shown(value, unit)
    if value <= threshold.limit:
        return Check(threshold.name, limit, seen, unit, Outcome.PASSED)
    number = _number(seen, unit)
    if number == _number(limit, unit):
        # Beyond what three figures show.
        number = f"{seen:.6g} {unit}"
    why = f"was {number}{of}, at most {_number(limit, unit)} is promised"
    return Check(threshold.name, limit, seen, unit, Outcome.FAILED, why)


def _unjudged(threshold: Threshold, value: float | None, unit: str, why: str) -> Check:
    seen = None if value is None else _shown(value, unit)
    return Check(threshold.name, _shown(threshold.limit, unit), seen, unit, Outcome.NOT_JUDGED, why)


def _unpromised(check: Check, phase: Phase, factor: float) -> Check:
    load = f"{phase.headroom} times its load" if phase.headroom else "its load"
    why = f"phase {phase.name} promises its targets up to {load}, and this is {factor:g} times"
    return Check(check.name, check.limit, check.seen, check.unit, Outcome.NOT_JUDGED, why)


def _crossed(run: Run, found: Sequence[Check]) -> Sequence[Check]:
    """k6 judges by itself, with the same limits: what it alone finds wrong is no pass either."""
    if not run.crossed:
        return [Check(K6, 0, 0, "crossed", Outcome.PASSED)]
    if any(each.outcome is Outcome.FAILED for each in found):
        return []
    why = f"did not hold: {', '.join(run.crossed)}"
    return [Check(K6, 0, len(run.crossed), "crossed", Outcome.FAILED, why)]


def _shown(value: float, unit: str) -> float:
    return value * 100 if unit == "%" else value


def _number(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}"
