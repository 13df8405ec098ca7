"""What happened to a tenant's leads, read from the rows, as the figures of `governance.outcomes`."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.governance import outcomes
from app.governance.experiments import ExperimentRepository, definition
from app.governance.models import Decision, ExperimentRow
from app.governance.outcomes import ArmMetrics, DayMetrics, LeadFacts
from app.pack import Kit
from app.packs.leads.gather import PACK
from app.packs.leads.models import Action, Lead, LeadFeedback, LeadOutcome, OutcomeKind
from app.principal import Principal

DEFAULT_PERIOD = timedelta(days=30)
LONGEST_PERIOD = timedelta(days=366)
SATISFIED = 4


class BusinessReport(BaseModel):
    """Figures of the leads that arrived from `since` up to, not including, `until`."""

    since: datetime
    until: datetime
    total: outcomes.BusinessMetrics
    days: list[DayMetrics]
    arms: list[ArmMetrics]


class BusinessMetrics:
    def __init__(self, kit: Kit) -> None:
        self._db = kit.ports.db
        self._clock = kit.ports.clock

    async def report(self, principal: Principal, since: datetime | None, until: datetime | None) -> BusinessReport:
        """The last 30 days where no period is given. Raises InvalidInput for an empty one or one over 366 days."""
        until = until or self._clock()
        since = since or until - DEFAULT_PERIOD
        if not timedelta(0) < until - since <= LONGEST_PERIOD:
            raise InvalidInput("'since' must lie before 'until', by at most 366 days.")
        async with self._db.reading(principal.tenant_id) as session:
            rows = await _read(session, principal.tenant_id, since, until)
            experiments = await ExperimentRepository(session, principal.tenant_id).all(ExperimentRow.pack == PACK)
        # Tens of thousands of leads take a tenth of a second to sum: not on the event loop.
        return await asyncio.to_thread(_report, rows, list(experiments), since, until)


class _Rows:
    """Rows of one tenant and period, by lead."""

    def __init__(self, leads: Sequence[Row[str, datetime, datetime | None]]) -> None:
        self.leads = leads
        self.decisions: defaultdict[str, list[Row[str, str, str, str | None, str | None, int]]] = defaultdict(list)
        self.outcome: dict[str, str] = {}
        self.feedback: dict[str, dict[str, LeadFeedback]] = defaultdict(dict)


async def _read(session: AsyncSession, tenant_id: str, since: datetime, until: datetime) -> _Rows:
    wanted = (Lead.tenant_id == tenant_id, Lead.created_at >= since, Lead.created_at < until)
    mine = select(Lead.id).where(*wanted)
    rows = _Rows((await session.execute(select(Lead.id, Lead.created_at, Lead.first_response_at).where(*wanted))).all())
    decisions = (
        select(
            Decision.subject_id, Decision.id, Decision.action, Decision.experiment, Decision.arm, Decision.cost_micros
        )
        .where(Decision.tenant_id == tenant_id, Decision.pack == PACK, Decision.subject_id.in_(mine))
        .order_by(Decision.id)
    )
    for decision in await session.execute(decisions):
        rows.decisions[decision.subject_id].append(decision)
    found = (
        select(LeadOutcome.lead_id, LeadOutcome.kind)
        .where(LeadOutcome.tenant_id == tenant_id, LeadOutcome.lead_id.in_(mine))
        .order_by(LeadOutcome.id)
    )
    for outcome in await session.execute(found):
        rows.outcome[outcome.lead_id] = outcome.kind
    judged = (
        select(LeadFeedback)
        .where(LeadFeedback.tenant_id == tenant_id, LeadFeedback.lead_id.in_(mine))
        .order_by(LeadFeedback.id)
    )
    for feedback in await session.scalars(judged):
        rows.feedback[feedback.lead_id][feedback.decision_id] = feedback
    return rows


def _report(rows: _Rows, experiments: list[ExperimentRow], since: datetime, until: datetime) -> BusinessReport:
    facts = [_facts(rows, lead.id, lead.created_at, lead.first_response_at) for lead in rows.leads]
    arms: list[ArmMetrics] = []
    for row in experiments:
        arms += outcomes.by_arm(facts, row.name, [arm.arm for arm in definition(row).arms])
    return BusinessReport(
        since=since, until=until, total=outcomes.summarise(facts), days=outcomes.by_day(facts), arms=arms
    )


def _facts(rows: _Rows, lead_id: str, received: datetime, first_response: datetime | None) -> LeadFacts:
    decisions = rows.decisions[lead_id]
    kind = rows.outcome.get(lead_id)
    judgements = list(rows.feedback[lead_id].values())
    actions = {decision.id: decision.action for decision in decisions}
    verdicts = [
        verdict
        for item in judgements
        if (verdict := right(item.correct_action, item.thumb, actions.get(item.decision_id))) is not None
    ]
    ratings = [item.csat for item in judgements if item.csat is not None]
    necessary = [item.escalation_necessary for item in judgements if item.escalation_necessary is not None]
    return LeadFacts(
        received_at=received,
        experiment=decisions[0].experiment if decisions else None,
        arm=decisions[0].arm if decisions else None,
        decided=bool(decisions),
        response_due=any(action != Action.DISQUALIFY for action in actions.values()),
        first_response_at=first_response,
        escalated=Action.ESCALATE in actions.values(),
        escalation_necessary=necessary[-1] if necessary else None,
        converted=None if kind is None else kind == OutcomeKind.CONVERTED,
        judged=len(verdicts),
        correct=sum(verdicts),
        ratings=len(ratings),
        satisfied=sum(rating >= SATISFIED for rating in ratings),
        cost_micros=sum(decision.cost_micros for decision in decisions),
    )


def right(correct: str | None, thumb: str | None, action: str | None) -> bool | None:
    """Whether a person found a decision for `action` right; a correction counts before a thumb, None: not judged."""
    if correct is not None:
        return correct == action
    return None if thumb is None else thumb == "up"
