"""Business metrics from what happened to leads, by day and by experiment arm.

Pure functions over `LeadFacts`. Two rules hold for every figure:

- A lead counts on the UTC day it arrived and in the arm it was assigned, whenever its events happened, so
  that a share's two counts are about the same leads. Recent days therefore still move.
- What is not known yet is neither a yes nor a no: it is left out of the share, and `of` says how many leads
  (or judgements) the share rests on. `None` means that nothing is known yet; it is never shown as zero.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pydantic import BaseModel, Field

from app.governance.stats import Comparison, two_proportions, wilson


@dataclass(frozen=True, slots=True)
class LeadFacts:
    """What is known of one lead by now.

    Args:
        received_at: timezone-aware arrival.
        decided: whether at least one decision was made.
        response_due: whether a decision called for an answer (a disqualified lead gets none).
        first_response_at: when the first answer left, None before.
        escalated: whether a decision handed the lead to a person.
        escalation_necessary: a person's judgement of that, None before it is given.
        converted: the reported outcome, None while it is open.
        judged, correct: decisions that a person confirmed or corrected, and those of them that were right.
        ratings, satisfied: answers that the lead rated, and those of them that were rated well.
        cost_micros: model and tool cost of all the lead's decisions, failed ones included, in micro-USD.
    """

    received_at: datetime
    experiment: str | None = None
    arm: str | None = None
    decided: bool = False
    response_due: bool = False
    first_response_at: datetime | None = None
    escalated: bool = False
    escalation_necessary: bool | None = None
    converted: bool | None = None
    judged: int = 0
    correct: int = 0
    ratings: int = 0
    satisfied: int = 0
    cost_micros: int = 0


class Share(BaseModel):
    """A share of a known count."""

    value: float | None = Field(description="0 to 1; null while nothing is known.")
    of: int = Field(description="What the share rests on: leads or judgements whose answer is known.")
    interval95: tuple[float, float] | None = Field(description="Wilson's 95 % confidence interval.")


class ResponseTime(BaseModel):
    """Seconds from arrival to the first answer, over the leads that were answered."""

    p50_s: float | None
    p90_s: float | None
    answered: int
    waiting: int = Field(description="Leads that are due an answer and have none yet: in neither percentile.")


class BusinessMetrics(BaseModel):
    """The figures of a set of leads."""

    volume: int = Field(description="Leads received, decided or not.")
    decided: int
    conversion: Share = Field(description="Converted, of the leads whose outcome is reported.")
    outcomes_open: int = Field(description="Decided leads without an outcome: not in the conversion.")
    escalation_rate: Share = Field(description="Handed to a person, of the decided leads.")
    escalation_precision: Share = Field(description="Necessary, of the escalations that a person judged.")
    first_response: ResponseTime
    csat: Share = Field(description="Rated well, of the rated answers.")
    decision_accuracy: Share = Field(description="Right, of the decisions that a person confirmed or corrected.")
    cost_per_lead_usd: float | None = Field(description="Cost of all decisions, per decided lead.")


class DayMetrics(BaseModel):
    day: date
    metrics: BusinessMetrics


class ArmMetrics(BaseModel):
    """An arm's figures; the comparisons are with the control, and null for the control itself."""

    experiment: str
    arm: str
    control: bool
    metrics: BusinessMetrics
    conversion: Comparison | None
    escalation_precision: Comparison | None
    decision_accuracy: Comparison | None


def summarise(facts: Iterable[LeadFacts]) -> BusinessMetrics:
    """The figures of all the leads given."""
    leads = list(facts)
    decided = [lead for lead in leads if lead.decided]
    return BusinessMetrics(
        volume=len(leads),
        decided=len(decided),
        conversion=_share(*_conversion(leads)),
        outcomes_open=sum(lead.converted is None for lead in decided),
        escalation_rate=_share(sum(lead.escalated for lead in decided), len(decided)),
        escalation_precision=_share(*_escalation_precision(leads)),
        first_response=_first_response(leads),
        csat=_share(sum(lead.satisfied for lead in leads), sum(lead.ratings for lead in leads)),
        decision_accuracy=_share(*_accuracy(leads)),
        cost_per_lead_usd=sum(lead.cost_micros for lead in leads) / len(decided) / 1e6 if decided else None,
    )


def by_day(facts: Iterable[LeadFacts]) -> list[DayMetrics]:
    """One entry for each UTC day from the first arrival to the last, days without leads included."""
    days: defaultdict[date, list[LeadFacts]] = defaultdict(list)
    for lead in facts:
        days[lead.received_at.astimezone(UTC).date()].append(lead)
    if not days:
        return []
    first, last = min(days), max(days)
    every = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [DayMetrics(day=day, metrics=summarise(days.get(day, []))) for day in every]


def by_arm(facts: Iterable[LeadFacts], experiment: str, arms: Sequence[str]) -> list[ArmMetrics]:
    """One entry for each arm in the order given, the first being the control.

    Leads outside the experiment are left out; an arm without leads has an entry all the same.
    """
    groups: dict[str, list[LeadFacts]] = {arm: [] for arm in arms}
    for lead in facts:
        if lead.experiment == experiment and lead.arm in groups:
            groups[lead.arm].append(lead)
    control = next(iter(groups.values()), [])
    return [_arm(experiment, arm, leads, None if leads is control else control) for arm, leads in groups.items()]


_Counts = Callable[[Sequence[LeadFacts]], tuple[int, int]]


def _arm(experiment: str, arm: str, leads: Sequence[LeadFacts], control: Sequence[LeadFacts] | None) -> ArmMetrics:
    def against(counts: _Counts) -> Comparison | None:
        return two_proportions(*counts(leads), *counts(control)) if control is not None else None

    return ArmMetrics(
        experiment=experiment,
        arm=arm,
        control=control is None,
        metrics=summarise(leads),
        conversion=against(_conversion),
        escalation_precision=against(_escalation_precision),
        decision_accuracy=against(_accuracy),
    )


def _conversion(leads: Sequence[LeadFacts]) -> tuple[int, int]:
    known = [lead.converted for lead in leads if lead.converted is not None]
    return sum(known), len(known)


def _escalation_precision(leads: Sequence[LeadFacts]) -> tuple[int, int]:
    judged = [lead.escalation_necessary for lead in leads if lead.escalated and lead.escalation_necessary is not None]
    return sum(judged), len(judged)


def _accuracy(leads: Sequence[LeadFacts]) -> tuple[int, int]:
    return sum(lead.correct for lead in leads), sum(lead.judged for lead in leads)


def _first_response(leads: Sequence[LeadFacts]) -> ResponseTime:
    """Clocks of two machines may differ by a moment: an answer "before" its lead counts as at once."""
    waits = sorted(
        max(0.0, (lead.first_response_at - lead.received_at).total_seconds())
        for lead in leads
        if lead.first_response_at is not None
    )
    return ResponseTime(
        p50_s=percentile(waits, 0.5),
        p90_s=percentile(waits, 0.9),
        answered=len(waits),
        waiting=sum(lead.response_due and lead.first_response_at is None for lead in leads),
    )


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of ascending values: always a value that occurred; None of nothing."""
    if not ordered:
        return None
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def _share(yes: int, known: int) -> Share:
    return Share(value=yes / known if known else None, of=known, interval95=wilson(yes, known))
