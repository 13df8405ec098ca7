"""Makes a stored decision again from what it saw, and says whether it came out the same."""

from collections.abc import Mapping
from typing import Any

from app.agent.offline import OFFLINE
from app.governance.models import Decision
from app.pack import Kit, ReplayReport
from app.packs.leads.decide import answer_document, ask, evidence_rows, load_decision
from app.packs.leads.facts import DecisionInputs
from app.packs.leads.guardrails import judge
from app.principal import Principal


class Replayer:
    """Uses the stored inputs and the stored prompt version; neither reads nor writes anything outside."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def replay(self, principal: Principal, decision_id: str) -> ReplayReport:
        """Raises NotFound for a decision or a prompt version that is not there, and what the model raises."""
        async with self._kit.ports.db.reading(principal.tenant_id) as session:
            decision = await load_decision(session, principal, decision_id)
        inputs = DecisionInputs.model_validate(decision.inputs)
        prompt = self._kit.prompts.get(decision.prompt_name or "", decision.prompt_version)
        result = await ask(self._kit, principal, prompt, inputs, subject_id=decision.subject_id, fresh=True)
        verdict = judge(inputs, result.answer, prompt.system)
        again = {
            "action": verdict.action.value,
            "confidence": verdict.confidence,
            "reason": verdict.reason,
            "evidence": [row["chunk_id"] for row in evidence_rows(inputs, verdict)],
            **_compared(answer_document(inputs, result.answer, verdict)),
        }
        differences = tuple(_differences(_stored(decision), again))
        return ReplayReport(decision_id, not differences, differences, _note(decision, result.model))


def _stored(decision: Decision) -> dict[str, Any]:
    return {
        "action": decision.action,
        "confidence": decision.confidence,
        "reason": decision.reason,
        "evidence": [row["chunk_id"] for row in decision.evidence],
        **_compared(decision.answer),
    }


def _compared(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in ("overrides", "quiet", "subject", "reply", "follow_up_days", "slot")}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [f"{name}: was {before[name]!r}, is {after[name]!r}" for name in before if before[name] != after[name]]


def _note(decision: Decision, model: str) -> str:
    if model != decision.model:
        return f"It was made by {decision.model}; {model} answered now."
    if model == OFFLINE:
        return "The offline model is deterministic: a difference means that rules or guardrails changed since."
    return f"{model} may answer differently to the same question: a difference is no fault by itself."
