"""Runs the search: asks for one rate after the other until the edge is found, and says what it was."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from infra.capacity import Measured
from infra.phases import Phase
from loadtest.capacity.judge import Look, Step, judge
from loadtest.capacity.kept import Kept
from loadtest.capacity.search import Edge, Search, Trial, edge, next_factor
from loadtest.measure import REST
from loadtest.plan import P99_SAMPLES, SPARE, WARM_UP_S, mix, questions_s
from loadtest.results import Kind
from loadtest.verdict import DOUBTFUL

FIRST_S: Final = 10.0
"""Questions a second of the first step: any replica carries them, and a hundred seconds are enough to judge it."""
LOWEST: Final = 1 / 32
HIGHEST: Final = 256.0
"""Times the first rate."""
SHORTEST_S: Final = 20.0
DISTURBED_MOST: Final = 3

Ask = Callable[[float, float], Awaitable[Step]]
"""A step at a factor of the replica's share, for so many seconds."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """`best`: the step at the highest rate that was within; None where none was. `left`: what is said of the lowest
    rate that was not; empty where there is none."""

    edge: Edge
    best: Step | None
    left: str


def search_of(phase: Phase, growth: float, resolution: float) -> Search:
    """Of the factor of the replica's share, which is 1 at the phase's load over its fewest replicas."""
    first = max(1.0, FIRST_S / questions_s(mix(phase)))
    return Search(first, growth, resolution, first * LOWEST, first * HIGHEST)


def seconds(phase: Phase, factor: float, resolution: float) -> float:
    """How long a step at a rate has to be.

    Long enough for a p99 (1,000 questions); and where a rate is above what the replica can serve by the search's
    resolution, its queue grows by that share of each second: long enough for this to reach the limit of an answer.
    """
    limit = phase.targets.answer_p99_s or phase.targets.answer_p50_s
    asked = P99_SAMPLES * SPARE / (questions_s(mix(phase)) * factor)
    return math.ceil(max(asked, limit / resolution, SHORTEST_S))


class Disturbed(RuntimeError):
    """The machine is too busy with something else. The message is a sentence; the steps of before are kept."""


async def find(phase: Phase, kept: Kept, steps: Sequence[Step], ask: Ask, say: Say) -> tuple[Step, ...]:
    """All steps, those of before first, until the search is over. Each is kept as soon as it was made.

    A step that is out while something else had the machine says nothing of the replica and is not kept. Raises
    Disturbed after three of them in a row.
    """
    made, disturbed = list(steps), 0
    while (factor := next_factor(kept.search, trials(phase, made))) is not None:
        step = await ask(factor, seconds(phase, factor, kept.search.resolution))
        if elsewhere(step) > DOUBTFUL and not judge(step, phase).within:
            disturbed += 1
            sentence = f"something else used {elsewhere(step):.0%} of the machine"
            say(f"not counted: {sentence} in a step that was out.")
            if disturbed == DISTURBED_MOST:
                raise Disturbed(f"Nothing is found out here, {sentence}: run it again where there is less to do.")
            continue
        disturbed = 0
        made.append(step)
        kept.add(len(made), step)
        say(f"step {len(made)}: {line(phase, step)}")
    return tuple(made)


def elsewhere(step: Step) -> float:
    """The share of the machine that went to what is no part of the measurement."""
    return sum(part.machine_share for part in step.result.parts if part.part == REST)


def trials(phase: Phase, steps: Sequence[Step]) -> list[Trial]:
    return [Trial(step.result.factor, judge(step, phase)) for step in steps]


def found(phase: Phase, steps: Sequence[Step]) -> Found:
    tried = trials(phase, steps)
    at = edge(tried)
    within = [step for step, trial in zip(steps, tried, strict=True) if trial.factor == at.low and trial.look.within]
    out = [trial.look for trial in tried if trial.factor == at.high and not trial.look.within]
    worst = max(out, key=lambda look: look.excess, default=Look(True, True))
    return Found(at, within[-1] if within else None, worst.why)


def rate(phase: Phase, factor: float) -> float:
    """Questions in a second."""
    return questions_s(mix(phase)) * factor


def line(phase: Phase, step: Step) -> str:
    """One step in a line."""
    look, questions = judge(step, phase), step.result.questions
    verdict = ("within" if look.within else "out") + ("" if look.sure else ", not surely")
    answer = questions.answer if questions else None
    times = f"p50 {answer.p50_s * 1e3:,.0f} ms, p95 {answer.p95_s * 1e3:,.0f} ms, " if answer else ""
    api = cores(step, "api")
    used = f"{times}API {api:.2f} cores: {verdict}{f' ({look.why})' if look.why else ''}"
    return f"{rate(phase, step.result.factor):.1f} questions a second, {used}"


def cores(step: Step, part: str) -> float:
    """Used in the mean of the step by one part; 0 where there is no such part."""
    used = sum(each.cpu_s for each in step.result.parts if each.part == part)
    # What it used in the warm-up is counted too.
    return used / (step.result.ended - step.result.began + WARM_UP_S)


def measured(phase: Phase, found: Found, machine: str, cores_of: int, day: date, beyond: str) -> Measured:
    """What `infra/capacity.json` says of the phase. `beyond`: see `promise.beyond`."""
    rates: Mapping[Kind, float] = mix(phase)
    return Measured(
        questions_s=round(rate(phase, found.edge.low), 2),
        leads_s=round(rates[Kind.LEAD] * found.edge.low, 3),
        left_by=found.left or "nothing, up to the highest rate that was tried",
        api_cores=round(cores(found.best, "api"), 3) if found.best else 0.0,
        worker_cores=round(cores(found.best, "worker"), 3) if found.best else 0.0,
        cores=cores_of,
        machine=machine,
        measured=day.isoformat(),
        command=f"make capacity PHASE={phase.name}",
        beyond=beyond,
    )
