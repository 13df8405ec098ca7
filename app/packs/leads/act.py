"""Carries a decision out: two waves of writes, each once, whatever is killed when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.tools import OutcomeState, ToolOutcome
from app.governance.models import Decision, DecisionState
from app.pack import Kit
from app.packs.leads.facts import SlotFacts
from app.packs.leads.gather import PACK
from app.packs.leads.models import STATUS_AFTER, Action, Direction, Lead, LeadStatus
from app.packs.leads.planning import Carried, first_wave, second_wave
from app.packs.leads.repository import EventRepository, LeadRepository, MessageRepository
from app.principal import Principal

DEFAULT_FOLLOW_UP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Written:
    """What became of each write, and the mail that was among them."""

    outcomes: tuple[ToolOutcome, ...]
    mail: Mapping[str, Any] | None


class Actor:
    """Runs the writes of a stored decision; run again, it takes up where it stopped."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def act(self, principal: Principal, decision_id: str) -> DecisionState:
        """The state that the decision is left in. A finished decision is not touched."""
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            decision, lead = await LeadRepository(session, principal.tenant_id).of_decision(PACK, decision_id)
        if decision.state == DecisionState.DONE:
            return DecisionState.DONE
        written = Written((), None) if decision.answer["quiet"] else await self._write(principal, lead, decision)
        state = state_after(written.outcomes)
        await self._finish(principal, decision_id, written, state)
        return state

    async def _write(self, principal: Principal, lead: Lead, decision: Decision) -> Written:
        what = carried(decision)
        plans = first_wave(lead, what)
        outcomes = await self._kit.executor.execute(principal, decision.id, plans)
        results = {o.tool: o.result for o in outcomes if o.state is OutcomeState.DONE and isinstance(o.result, dict)}
        then = second_wave(lead, what, results)
        outcomes += await self._kit.executor.execute(principal, decision.id, then)
        mail = next((plan.args for plan in (*plans, *then) if plan.tool == "email_send"), None)
        return Written(tuple(outcomes), mail)

    async def _finish(self, principal: Principal, decision_id: str, written: Written, state: DecisionState) -> None:
        now = self._kit.ports.clock()
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            leads = LeadRepository(session, principal.tenant_id)
            # Another worker may be at the same: one that was taken for dead, or one after an approval.
            decision, lead = await leads.of_decision(PACK, decision_id, lock=True)
            if decision.state == DecisionState.DONE:
                return
            told = {row["key"] for row in decision.tool_calls if row["state"] == OutcomeState.DONE}
            reads = [row for row in decision.tool_calls if row["effect"] == "read"]
            decision.tool_calls = [*reads, *(outcome.as_row() for outcome in written.outcomes)]
            decision.state = state
            lead.updated_at = now
            lead.status = lead_status(Action(decision.action), state)
            lead.follow_up_at = _follow_up(decision, now)
            news = Written(tuple(o for o in written.outcomes if o.key not in told), written.mail)
            self._tell(session, principal, lead, decision.id, news, now)
            await self._kit.audit.record(
                session,
                principal,
                "decision.carried_out",
                decision.id,
                {"state": state, "writes": {o.tool: o.state for o in written.outcomes}},
            )

    def _tell(
        self,
        session: AsyncSession,
        principal: Principal,
        lead: Lead,
        decision_id: str,
        news: Written,
        now: datetime,
    ) -> None:
        """The timeline, the message that went out, and the time of the first response."""
        events = EventRepository(session, principal.tenant_id)
        for outcome in news.outcomes:
            summary = f"{outcome.tool}: {outcome.state}" + (f" ({outcome.error})" if outcome.error else "")
            events.write(lead.id, "wrote", summary, now, decision_id=decision_id, tool=outcome.tool, key=outcome.key)
        sent = any(o.tool == "email_send" and o.state is OutcomeState.DONE for o in news.outcomes)
        if sent and news.mail is not None:
            MessageRepository(session, principal.tenant_id).write(
                lead.id, Direction.OUTBOUND, news.mail["body"], news.mail["subject"], now
            )
            if lead.first_response_at is None:
                lead.first_response_at = now
                self._kit.metrics.first_response_seconds.observe((now - lead.created_at).total_seconds())


def carried(decision: Decision) -> Carried:
    """What the stored decision carries out."""
    slot = decision.answer["slot"]
    return Carried(
        decision_id=decision.id,
        action=Action(decision.action),
        reason=decision.reason,
        subject=decision.answer["subject"],
        reply=decision.answer["reply"],
        slot=SlotFacts.model_validate(slot) if slot else None,
    )


def state_after(outcomes: Sequence[ToolOutcome]) -> DecisionState:
    """Waiting while a write waits for approval; failed where one failed or needs a person; else done."""
    states = {outcome.state for outcome in outcomes}
    if OutcomeState.WAITING_APPROVAL in states:
        return DecisionState.WAITING_APPROVAL
    if states & {OutcomeState.FAILED, OutcomeState.PARKED}:
        return DecisionState.FAILED
    return DecisionState.DONE


def lead_status(action: Action, state: DecisionState) -> LeadStatus:
    """Where the lead stands: a write that failed or may have happened needs a person, one that waits is no answer."""
    if state is DecisionState.FAILED:
        return LeadStatus.ESCALATED
    return LeadStatus.WAITING if state is DecisionState.WAITING_APPROVAL else STATUS_AFTER[action]


def _follow_up(decision: Decision, now: datetime) -> datetime | None:
    if decision.action != Action.NURTURE:
        return None
    return now + timedelta(days=decision.answer["follow_up_days"] or DEFAULT_FOLLOW_UP_DAYS)
