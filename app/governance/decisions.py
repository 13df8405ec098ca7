"""Decisions as rows, and as explanations that a person can read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.governance.models import Decision
from app.storage.repository import TenantRepository
from app.telemetry import names, spans


class DecisionRepository(TenantRepository[Decision]):
    model = Decision
    noun = "decision"

    def add(self, row: Decision) -> Decision:
        """As any row; the current span says which decision it made."""
        added = super().add(row)
        spans.note(names.DECISION_ID, added.id)
        return added

    async def of_subject(self, pack: str, subject_id: str) -> Sequence[Decision]:
        """Every decision about a subject, oldest first."""
        return await self.all(Decision.pack == pack, Decision.subject_id == subject_id)

    async def of_trigger(self, pack: str, trigger_id: str) -> Decision | None:
        """The one decision that a trigger led to."""
        return await self.first(Decision.trigger_key == trigger_key(self.tenant_id, pack, trigger_id))


def trigger_key(tenant_id: str, pack: str, trigger_id: str) -> str:
    """The value of `Decision.trigger_key`: a trigger decides once."""
    return f"{tenant_id}:{pack}:{trigger_id}"


class Evidence(BaseModel):
    """A passage that the decision rests on."""

    chunk_id: str
    document_id: str
    title: str
    score: float
    quote: str


class ToolStep(BaseModel):
    """A tool that was called, and what became of the call."""

    tool: str
    effect: str
    state: str
    key: str
    duration_ms: float = 0.0
    detail: str = ""


class Versions(BaseModel):
    """What ran: enough to run the same again."""

    prompt_name: str | None
    prompt_version: int | None
    model: str | None
    provider: str | None
    route: str | None
    experiment: str | None
    arm: str | None
    policy_version: int | None
    score_model_version: str | None


class Cost(BaseModel):
    """What the decision took. `own_ms` is the time without the model."""

    tokens_in: int
    tokens_out: int
    cost_usd: float
    duration_ms: float
    model_ms: float
    own_ms: float


class DecisionExplanation(BaseModel):
    """Why a decision came out as it did: the inputs, the evidence, the versions, the acts and the cost."""

    id: str
    pack: str
    subject_id: str
    decided_at: datetime
    summary: str = Field(description="One sentence: what was decided, how sure, on how much evidence.")
    action: str
    confidence: float
    reason: str
    state: str
    score: float | None
    inputs: Mapping[str, Any]
    evidence: Sequence[Evidence]
    answer: Mapping[str, Any]
    tool_calls: Sequence[ToolStep]
    versions: Versions
    cost: Cost


def explain(decision: Decision) -> DecisionExplanation:
    """The decision's row as an explanation; raises pydantic's ValidationError where the row's JSON is misshapen."""
    return DecisionExplanation(
        id=decision.id,
        pack=decision.pack,
        subject_id=decision.subject_id,
        decided_at=decision.created_at,
        summary=_summary(decision),
        action=decision.action,
        confidence=decision.confidence,
        reason=decision.reason,
        state=decision.state,
        score=decision.score,
        inputs=decision.inputs,
        evidence=[Evidence.model_validate(item) for item in decision.evidence],
        answer=decision.answer,
        tool_calls=[ToolStep.model_validate(item) for item in decision.tool_calls],
        versions=Versions.model_validate(decision, from_attributes=True),
        cost=_cost(decision),
    )


def _cost(decision: Decision) -> Cost:
    return Cost(
        tokens_in=decision.tokens_in,
        tokens_out=decision.tokens_out,
        cost_usd=decision.cost_micros / 1_000_000,
        duration_ms=decision.duration_ms,
        model_ms=decision.model_ms,
        own_ms=max(0.0, decision.duration_ms - decision.model_ms),
    )


def _summary(decision: Decision) -> str:
    passages = len(decision.evidence)
    by = f"by {decision.model}" if decision.model else "by rules, without a model"
    on = f"on {passages} {'passage' if passages == 1 else 'passages'}" if passages else "without evidence"
    done = [call["tool"] for call in decision.tool_calls if call["state"] == "done"]
    acts = f"; did {', '.join(done)}" if done else ""
    return f"Decided: {decision.action} ({decision.confidence:.0%} sure) {by}, {on}{acts}."
