"""What k6's script is told: executors with the plan's rates, thresholds, whom to ask for what. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from infra.phases import Phase
from loadtest.plan import (
    BATCH_LEADS,
    P50_SAMPLES,
    P99_SAMPLES,
    SHARES,
    Figure,
    Scenario,
    Stage,
    Threshold,
    hopeless_s,
    thresholds,
)
from loadtest.results import Kind

SCRIPT: Final = Path(__file__).parent / "scenarios" / "mix.js"
TIMEOUT_S: Final = 30
HOUR_S: Final = 3_600
"""k6 takes whole numbers of requests a unit of time: an hour makes a lead every 38 seconds one of them."""
JITTER_S: Final = 1.0
HOPELESS_AFTER_S: Final = 10
HOPELESS_FAILED: Final = 0.5
HOPELESS_DROPPED: Final = 0.1
SEED: Final = 20260

_FUNCTIONS: Final[Mapping[Kind, str]] = {
    Kind.CHAT: "chat",
    Kind.STREAM: "stream",
    Kind.KNOWN: "knownWhole",
    Kind.KNOWN_STREAM: "knownStream",
    Kind.LEAD: "leads",
    Kind.DOCUMENT: "documents",
    Kind.BATCH: "batches",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked. `keys`: one of each tenant. `filled`: the bot that documents are put into. `known`: questions that
    every tenant has been answered; `asked`: what the documents answer, to be made new by a further sentence."""

    address: str
    keys: tuple[str, ...]
    bot: str
    filled: str
    known: tuple[str, ...]
    asked: tuple[str, ...]


def told(scenario: Scenario, phase: Phase, target: Target, run: str, summary: Path) -> Mapping[str, Any]:
    """All of it, as JSON. `run` names the run: what is sent is new to the service. `summary`: a file that k6 writes."""
    return {
        "run": run,
        "seed": SEED,
        "summary": str(summary),
        "address": target.address,
        "keys": list(target.keys),
        "bot": target.bot,
        "filled": target.filled,
        "known": list(target.known),
        "asked": list(target.asked),
        "batch_leads": BATCH_LEADS,
        "timeout": f"{TIMEOUT_S}s",
        "warm_ms": scenario.warm_s * 1000,
        "jitter_s": {kind.value: jitter_s(rate * scenario.factor) for kind, rate in scenario.rates.items()},
        "lengths": {kind.value: _lengths(scenario, kind) for kind in SHARES},
        "options": options(scenario, phase),
    }


def options(scenario: Scenario, phase: Phase) -> Mapping[str, Any]:
    """k6's own options: https://grafana.com/docs/k6/latest/using-k6/k6-options/reference/"""
    return {
        "scenarios": {kind.value: _executor(scenario, phase, kind) for kind in scenario.rates},
        "thresholds": {metric: list(each) for metric, each in native(scenario, phase).items()},
        "summaryTrendStats": ["avg", "p(50)", "p(95)", "p(99)", "max", "count"],
        # Those who look alike are one series: no address, no name, no status of a single request.
        "systemTags": ["expected_response", "scenario", "error_code"],
    }


def native(scenario: Scenario, phase: Phase) -> Mapping[str, Sequence[str | Mapping[str, Any]]]:
    """k6's thresholds by metric: the phase's where enough is asked for them, and those that end a hopeless run."""
    found: dict[str, list[str | Mapping[str, Any]]] = {
        "dropped_iterations": [_ending(f"count<{max(1, math.ceil(scenario.expected() * HOPELESS_DROPPED))}")],
        "http_req_failed": [_ending(f"rate<{HOPELESS_FAILED}")],
        "http_req_duration": [_ending(f"p(50)<{hopeless_s(phase) * 1000:g}")],
    }
    if scenario.promised:
        for threshold in thresholds(phase, scenario):
            metric, said = _native(threshold, scenario)
            if said:
                found.setdefault(metric, []).append(said)
    return found


def _native(threshold: Threshold, scenario: Scenario) -> tuple[str, str]:
    """A metric of k6 and what must hold of it; nothing of what k6 does not know, or has too few samples for."""
    tag = f"{{kind:{threshold.kind}}}" if threshold.kind else ""
    if threshold.kind is Kind.QUESTION:
        return "", ""
    if threshold.figure is Figure.DROPPED:
        return "dropped_iterations", f"count<={threshold.limit:g}"
    if threshold.figure is Figure.FAILED:
        return f"http_req_failed{tag}", f"rate<={threshold.limit:g}"
    percentile, least = (50, P50_SAMPLES) if threshold.figure is Figure.ANSWER_P50 else (99, P99_SAMPLES)
    asked = scenario.expected(threshold.kind) if threshold.kind else 0.0
    if threshold.figure is Figure.OWN_P99 or asked < least:
        return "", ""
    return f"http_req_duration{tag}", f"p({percentile})<={threshold.limit * 1000:g}"


def jitter_s(rate: float) -> float:
    """What an arrival waits at most: the space to the next one."""
    return min(JITTER_S, 1 / rate)


def _ending(threshold: str) -> Mapping[str, Any]:
    return {"threshold": threshold, "abortOnFail": True, "delayAbortEval": f"{HOPELESS_AFTER_S}s"}


def _executor(scenario: Scenario, phase: Phase, kind: Kind) -> Mapping[str, Any]:
    """Virtual users for answers as slow as is promised; k6 makes more itself, up to what a hopeless run needs."""
    rate = scenario.rates[kind] * scenario.factor
    jitter, slow = jitter_s(rate), phase.targets.answer_p99_s or phase.targets.answer_p50_s
    held = math.ceil(rate * (slow + jitter)) + 2
    return {
        "executor": "ramping-arrival-rate",
        "exec": _FUNCTIONS[kind],
        "startRate": _hourly(scenario, kind, scenario.stages[0]),
        "timeUnit": f"{HOUR_S}s",
        "stages": [stage for each in _steps(scenario) for stage in _step(scenario, kind, *each)],
        "preAllocatedVUs": held,
        "maxVUs": held + math.ceil(rate * min(hopeless_s(phase), TIMEOUT_S)),
        "gracefulStop": f"{TIMEOUT_S}s",
        "tags": {"kind": kind.value},
    }


def _steps(scenario: Scenario) -> Sequence[tuple[Stage, Stage]]:
    """Each stage with the one before it."""
    first = scenario.stages[0]
    return ((first, first), *pairwise(scenario.stages))


def _step(scenario: Scenario, kind: Kind, before: Stage, stage: Stage) -> Sequence[Mapping[str, Any]]:
    """A jump to the stage's rate where it is another one, then the rate for its time."""
    rate = _hourly(scenario, kind, stage)
    jump = [] if before.factor == stage.factor else [{"duration": "0s", "target": rate}]
    return [*jump, {"duration": f"{round(stage.seconds * 1000)}ms", "target": rate}]


def _hourly(scenario: Scenario, kind: Kind, stage: Stage) -> int:
    return round(scenario.rates[kind] * stage.factor * HOUR_S)


def _lengths(scenario: Scenario, kind: Kind) -> Sequence[tuple[int, int]]:
    """Every fourth of the trace: those of the other kinds are theirs."""
    return scenario.lengths[list(SHARES).index(kind) :: len(SHARES)]
