"""How good decisions are against their labels; the same figures for the agent and for what needs no agent."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.packs.leads.evals.cases import Case
from app.packs.leads.evals.pipeline import Judged
from app.packs.leads.models import Action


@dataclass(frozen=True, slots=True)
class Measures:
    """Shares of 0 to 1; None where nothing is counted.

    `exact` is the expected action, `acceptable` that or another one that is not wrong. `escalation_precision` is the
    share of the escalated leads that needed a person, `escalation_recall` the share of those that needed one and
    got one.
    """

    cases: int
    exact: float
    acceptable: float
    escalation_precision: float | None
    escalation_recall: float | None
    escalated: float


@dataclass(frozen=True, slots=True)
class EvidenceMeasures:
    """Over the leads to be answered that have labelled pages: shares of 0 to 1.

    `retrieved` is the recall of the pages among the passages that were found, `cited` among those that the answer
    cites, `hit` the share of leads with at least one right page cited, `precision` of right pages among the cited.
    """

    cases: int
    retrieved: float
    cited: float
    hit: float
    precision: float | None


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def measure(cases: Sequence[Case], actions: Sequence[Action]) -> Measures:
    """Raises ValueError where there is no case, or not one action for each."""
    if not cases or len(cases) != len(actions):
        raise ValueError("measure needs at least one case and one action for each")
    pairs = list(zip(cases, actions, strict=True))
    escalated = [case for case, action in pairs if action is Action.ESCALATE]
    needed = sum(case.escalation_necessary for case in cases)
    right = sum(case.escalation_necessary for case in escalated)
    return Measures(
        cases=len(cases),
        exact=sum(action is case.expected for case, action in pairs) / len(cases),
        acceptable=sum(case.accepts(action) for case, action in pairs) / len(cases),
        escalation_precision=share(right, len(escalated)),
        escalation_recall=share(right, needed),
        escalated=len(escalated) / len(cases),
    )


def evidence(judged: Sequence[Judged]) -> EvidenceMeasures | None:
    """None where no lead is to be answered from pages."""
    rows = [row for row in judged if row.case.expected is Action.RESPOND and row.case.evidence]
    if not rows:
        return None
    cited = sum(len(row.cited) for row in rows)
    right = sum(len(row.cited & row.case.evidence) for row in rows)
    return EvidenceMeasures(
        cases=len(rows),
        retrieved=sum(len(row.case.evidence & set(row.retrieved)) / len(row.case.evidence) for row in rows) / len(rows),
        cited=sum(len(row.cited & row.case.evidence) / len(row.case.evidence) for row in rows) / len(rows),
        hit=sum(bool(row.cited & row.case.evidence) for row in rows) / len(rows),
        precision=share(right, cited),
    )


def confusion(judged: Sequence[Judged]) -> Mapping[tuple[Action, Action], int]:
    """Leads by (expected, decided)."""
    return Counter((row.case.expected, row.action) for row in judged)


def by_language(judged: Sequence[Judged]) -> Mapping[str, Measures]:
    """The agent's measures for each language, the most frequent first."""
    languages = Counter(row.case.language for row in judged)
    groups = {language: [row for row in judged if row.case.language == language] for language in languages}
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return {language: measure([row.case for row in rows], [row.action for row in rows]) for language, rows in ordered}


def score_alone(judged: Judged) -> Action:
    """The score's floor with the policy's thresholds and nothing else: drop, answer, or hand to a person."""
    probability, thresholds = judged.inputs.score.probability, judged.inputs.thresholds
    if probability >= thresholds.escalate:
        return Action.ESCALATE
    return Action.RESPOND if probability >= thresholds.pursue else Action.DISQUALIFY


def baselines(judged: Sequence[Judged], draws: int = 200, seed: int = 0) -> Mapping[str, Measures]:
    """What needs no agent. At random: the mean of `draws` seeded draws among the five actions."""
    cases = [row.case for row in judged]
    chance = random.Random(seed)  # noqa: S311 - a baseline, not a secret
    drawn = [measure(cases, [chance.choice(list(Action)) for _ in cases]) for _ in range(draws)]
    return {
        "respond to everyone": measure(cases, [Action.RESPOND for _ in cases]),
        "escalate everyone": measure(cases, [Action.ESCALATE for _ in cases]),
        f"at random (mean of {draws})": _mean(drawn),
        "score thresholds alone": measure(cases, [score_alone(row) for row in judged]),
    }


def _mean(drawn: Sequence[Measures]) -> Measures:
    def mean(read: Callable[[Measures], float | None]) -> float:
        return sum(read(one) or 0.0 for one in drawn) / len(drawn)

    return Measures(
        cases=drawn[0].cases,
        exact=mean(lambda one: one.exact),
        acceptable=mean(lambda one: one.acceptable),
        escalation_precision=mean(lambda one: one.escalation_precision),
        escalation_recall=mean(lambda one: one.escalation_recall),
        escalated=mean(lambda one: one.escalated),
    )
