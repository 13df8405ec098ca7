"""Whether one replica kept its phase's targets in one step of the search, and how sure that is.

Shares (of failed requests, of answers slower than the p99's limit) are counted, and a count of independent requests is
binomial: the step is sure where the exact interval (Clopper and Pearson, The use of confidence or fiducial limits
illustrated in the case of the binomial, Biometrika 26, 1934) at 95 % lies on one side of what is allowed. With 1,000
questions and 1 % allowed that is 3 or fewer, or 18 or more.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from scipy.stats import binomtest

from infra.phases import Phase
from loadtest.results import EndpointResult, Quantiles, ScenarioResult

CONFIDENCE: Final = 0.95
SLOW_SHARE: Final = 0.01
"""What a 99th percentile allows."""
LEAST_ASKED: Final = 20
"""Fewer questions than this are no step: half of them are then a guess, too."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the search as it is kept: what k6 and the meter saw, and of the app's own shares of questions and
    decisions that asked a model how many took longer than the phase allows."""

    result: ScenarioResult
    own: int
    own_slow: int


@dataclass(frozen=True, slots=True)
class Look:
    """What one step says of one rate. `why`: of what left its target, or is nearest to, a sentence; empty where all
    is well. `excess`: how many times what is allowed the worst figure was; 1 is the edge."""

    within: bool
    sure: bool
    why: str = ""
    excess: float = 0.0


def judge(step: Step, phase: Phase) -> Look:
    """The worst of all targets. A step that was ended early as hopeless, or asked for nothing, is surely out."""
    questions, aborted = step.result.questions, step.result.aborted
    if aborted:
        return Look(False, True, f"the step was ended early: {aborted}", math.inf)
    if questions is None or questions.asked < LEAST_ASKED:
        return Look(False, True, f"only {questions.asked if questions else 0} questions were asked in time", math.inf)
    looks = list(_looks(step, questions, phase))
    out = [look for look in looks if not look.within]
    worst = max(out or looks, key=lambda look: look.excess)
    # One target that surely left is enough; that all were kept has to be sure of each.
    sure = any(look.sure for look in out) if out else all(look.sure for look in looks)
    return Look(not out, sure, worst.why if out else "", worst.excess)


def _looks(step: Step, questions: EndpointResult, phase: Phase) -> Iterator[Look]:
    targets, result = phase.targets, step.result
    asked = sum(each.asked for each in result.endpoints) + result.dropped
    failed = sum(each.failed for each in result.endpoints) + result.dropped
    dropped = f" ({result.dropped} were never begun)" if result.dropped else ""
    yield _share(f"requests failed{dropped}", failed, asked, targets.failed_share)
    if questions.answer is not None:
        yield _median(questions.answer, targets.answer_p50_s)
        if targets.answer_p99_s is not None:
            answered = questions.asked - questions.failed
            slow = answered - questions.good
            yield _share(f"answers took more than {targets.answer_p99_s:g} s", slow, answered, SLOW_SHARE)
    if step.own:
        what = f"questions and decisions took more than {targets.own_share_p99_s:g} s without their model calls"
        yield _share(what, step.own_slow, step.own, SLOW_SHARE)


def _share(what: str, count: int, of: int, allowed: float) -> Look:
    interval = binomtest(count, of).proportion_ci(CONFIDENCE, method="exact")
    within = count / of <= allowed
    sure = interval.high <= allowed if within else interval.low > allowed
    return Look(within, sure, f"{count / of:.2%} of {of:,} {what}, at most {allowed:.2%} may", count / of / allowed)


def _median(answers: Quantiles, limit: float) -> Look:
    """The median of hundreds of answers is taken as it is."""
    why = f"half of the answers took more than {answers.p50_s:.3g} s, at most {limit:g} s may"
    return Look(answers.p50_s <= limit, True, why, answers.p50_s / limit)
