"""One decision, from the gathered facts to the row that explains it."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.loop import AgentResult, AgentSpec
from app.agent.prompts import Prompt
from app.errors import NotFound
from app.governance.decisions import DecisionRepository, trigger_key
from app.governance.models import Decision, DecisionState
from app.ids import new_id
from app.pack import Kit
from app.packs.leads.facts import DecisionInputs, ScoreFacts
from app.packs.leads.gather import PACK, Gathered, Gatherer
from app.packs.leads.guardrails import Verdict, judge
from app.packs.leads.models import Action, LeadStatus
from app.packs.leads.planning import pick_slot
from app.packs.leads.repository import EventRepository, LeadRepository
from app.packs.leads.schemas import LeadDecision
from app.principal import Principal

PROMPT = "leads_decide"
SPEC = AgentSpec(
    name="leads", answer=LeadDecision, tools=("knowledge_search", "calendar_free_slots"), route="cheap", max_steps=4
)


@dataclass(frozen=True, slots=True)
class Made:
    """A decision before it is stored."""

    gathered: Gathered
    prompt: Prompt
    result: AgentResult[LeadDecision]
    verdict: Verdict
    duration_ms: float


class Decider:
    """Decides for one message of one lead, once however often it is called."""

    def __init__(self, kit: Kit, gatherer: Gatherer) -> None:
        self._kit = kit
        self._gatherer = gatherer

    async def decide(self, principal: Principal, lead_id: str, message_id: str) -> str:
        """The id of the decision: of the stored one where this message was decided before.

        Raises NotFound, BudgetExceeded, Unavailable (every model failed) or AgentFailed; nothing is stored then.
        """
        started = time.perf_counter()
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            known = await self._known(session, principal, message_id)
            if known is not None:
                return known
            read = await self._gatherer.read(session, principal, lead_id, message_id)
        gathered = await self._gatherer.gather(principal, read)
        version = gathered.assignment.arm.prompt_version if gathered.assignment else None
        prompt = self._kit.prompts.get(PROMPT, version)
        result = await ask(self._kit, principal, prompt, gathered.inputs, subject_id=lead_id)
        verdict = judge(gathered.inputs, result.answer, prompt.system)
        made = Made(gathered, prompt, result, verdict, (time.perf_counter() - started) * 1000)
        decision_id = await self._store(principal, made)
        self._observe(made)
        return decision_id

    async def _known(self, session: AsyncSession, principal: Principal, message_id: str) -> str | None:
        decision = await DecisionRepository(session, principal.tenant_id).of_trigger(PACK, message_id)
        return decision.id if decision else None

    async def _store(self, principal: Principal, made: Made) -> str:
        """Decision, evidence, timeline and audit in one transaction; the id of the first where two were made."""
        try:
            return await self._insert(principal, made)
        except IntegrityError:
            async with self._kit.ports.db.reading(principal.tenant_id) as session:
                known = await self._known(session, principal, made.gathered.message.id)
            if known is None:
                raise
            return known

    async def _insert(self, principal: Principal, made: Made) -> str:
        now, lead_id = self._kit.ports.clock(), made.gathered.lead.id
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            decision = DecisionRepository(session, principal.tenant_id).add(_row(made, principal.tenant_id, now))
            leads = LeadRepository(session, principal.tenant_id)
            await leads.scored(lead_id, made.gathered.inputs.score.probability, now)
            EventRepository(session, principal.tenant_id).write(
                lead_id, "decided", f"{decision.action}: {decision.reason}", now, decision_id=decision.id
            )
            await self._kit.audit.record(
                session,
                principal,
                "decision.made",
                decision.id,
                {"pack": PACK, "action": decision.action, "lead": lead_id, "prompt_version": decision.prompt_version},
            )
        return decision.id

    def _observe(self, made: Made) -> None:
        metrics = self._kit.metrics
        metrics.decisions.labels(pack=PACK, action=made.verdict.action.value).inc()
        metrics.time_to_answer_seconds.labels(PACK, "whole").observe(made.duration_ms / 1000)
        metrics.decision_confidence.labels(PACK).observe(made.verdict.confidence)
        metrics.lead_score.observe(made.gathered.inputs.score.probability)
        metrics.decision_duration_seconds.labels(pack=PACK).observe(made.duration_ms / 1000)
        metrics.own_share_seconds.labels(pack=PACK).observe(max(0.0, made.duration_ms - made.result.model_ms) / 1000)

    async def fail(self, principal: Principal, lead_id: str, why: str) -> None:
        """Hands a lead that could not be decided to a person, and says why on its timeline."""
        now = self._kit.ports.clock()
        async with self._kit.ports.db.transaction(principal.tenant_id) as session:
            lead = await LeadRepository(session, principal.tenant_id).get(lead_id)
            lead.status, lead.updated_at = LeadStatus.ESCALATED, now
            events = EventRepository(session, principal.tenant_id)
            events.write(lead.id, "undecided", f"The agent could not decide, a person takes over: {why}", now)
            await self._kit.audit.record(session, principal, "decision.failed", lead.id, {})


async def ask(
    kit: Kit, principal: Principal, prompt: Prompt, inputs: DecisionInputs, *, subject_id: str, fresh: bool = False
) -> AgentResult[LeadDecision]:
    """The model's answer to the inputs under one version of the prompt; `fresh` passes the answer cache by."""
    return await kit.agent.run(
        principal,
        SPEC,
        prompt,
        values=prompt_values(inputs),
        facts=inputs.model_dump(mode="json"),
        subject_id=subject_id,
        deadline_s=kit.settings.decision_deadline_s,
        fresh=fresh,
    )


def prompt_values(inputs: DecisionInputs) -> dict[str, str]:
    """The placeholders of `prompts/leads_decide.yaml`, as text."""
    lead = inputs.lead
    known = {"company": lead.company, "country": lead.country, "source": lead.source, **lead.attributes}
    return {
        "today": inputs.today.isoformat(),
        "language": inputs.enrichment.language,
        "lead": "\n".join([f"name: {lead.name}", *(f"{k}: {v}" for k, v in known.items() if v is not None)]),
        "score": _score_line(inputs.score),
        "signals": ", ".join(inputs.enrichment.signals) or "none",
        "slots": "\n".join(f"{s.start.isoformat()} - {s.end.isoformat()}" for s in inputs.slots) or "none",
        "history": "\n".join(f"[{turn.direction}] {turn.body}" for turn in inputs.history) or "none",
        "evidence": "\n\n".join(f"[{p.chunk_id}] {p.title}\n{p.text}" for p in inputs.passages) or "none",
        "message": inputs.message,
    }


def _score_line(score: ScoreFacts) -> str:
    parts = ", ".join(f"{name}={value} ({weight:+.2f})" for name, value, weight in score.contributions[:5])
    return f"{score.probability:.3f} by {score.version}" + (f"; {parts}" if parts else "")


def _row(made: Made, tenant_id: str, now: datetime) -> Decision:
    inputs, verdict, result = made.gathered.inputs, made.verdict, made.result
    assignment = made.gathered.assignment
    return Decision(
        id=new_id("dec"),
        created_at=now,
        pack=PACK,
        subject_id=made.gathered.lead.id,
        trigger_id=made.gathered.message.id,
        trigger_key=trigger_key(tenant_id, PACK, made.gathered.message.id),
        action=verdict.action,
        confidence=verdict.confidence,
        reason=verdict.reason,
        state=DecisionState.DECIDED,
        inputs=inputs.model_dump(mode="json"),
        evidence=evidence_rows(inputs, verdict),
        prompt_name=made.prompt.name,
        prompt_version=made.prompt.version,
        model=result.model,
        provider=result.provider,
        route=result.route,
        experiment=assignment.experiment if assignment else None,
        arm=assignment.arm.arm if assignment else None,
        policy_version=made.gathered.policy_version,
        score_model_version=inputs.score.version,
        score=inputs.score.probability,
        answer=answer_document(inputs, result.answer, verdict),
        tool_calls=[outcome.as_row() for outcome in result.tool_outcomes],
        tokens_in=result.usage.input_tokens,
        tokens_out=result.usage.output_tokens,
        cost_micros=result.cost_micros,
        duration_ms=made.duration_ms,
        model_ms=result.model_ms,
    )


def evidence_rows(inputs: DecisionInputs, verdict: Verdict) -> list[dict[str, Any]]:
    """The passages that the verdict cites, with what they say."""
    by_id = {p.chunk_id: p for p in inputs.passages}
    return [
        {
            "chunk_id": p.chunk_id,
            "document_id": p.document_id,
            "title": p.title,
            "score": round(p.score, 4),
            "quote": p.text,
        }
        for p in (by_id[chunk_id] for chunk_id in verdict.evidence)
    ]


def answer_document(inputs: DecisionInputs, answer: LeadDecision, verdict: Verdict) -> dict[str, Any]:
    """What the model said, what the guardrails made of it, and what will be written."""
    slot = pick_slot(inputs.slots, inputs.enrichment.wished) if verdict.action is Action.SCHEDULE else None
    return {
        "model": answer.model_dump(mode="json"),
        "overrides": list(verdict.overrides),
        "quiet": verdict.quiet,
        "subject": verdict.subject,
        "reply": verdict.reply,
        "follow_up_days": verdict.follow_up_days,
        "slot": slot.model_dump(mode="json") if slot else None,
    }


async def load_decision(session: AsyncSession, principal: Principal, decision_id: str) -> Decision:
    """The decision, where it is of this tenant and this pack; else NotFound."""
    decision = await DecisionRepository(session, principal.tenant_id).get(decision_id)
    if decision.pack != PACK:
        raise NotFound(f"There is no lead decision '{decision_id[:80]}'.")
    return decision
