"""The decision that explains a turn: what was asked, what was found, which versions ran, what it cost."""

import hashlib
from typing import Any, Final

from app.agent.talk import TalkResult
from app.conversation.events import Answer
from app.conversation.evidence import passage_row
from app.conversation.turn import Course
from app.conversation.writing import DecisionWriter
from app.governance.audit import AuditNote
from app.governance.decisions import trigger_key
from app.governance.models import DecisionState
from app.ids import new_id

ANSWERED: Final = "answered"
REFUSED: Final = "refused"
_LONGEST_SUBJECT: Final = 64


def subject_of(user: str) -> str:
    """A person as the subject of decisions: the user's id, its hash where it is longer than the column."""
    if len(user) <= _LONGEST_SUBJECT:
        return user
    return f"user_{hashlib.blake2b(user.encode(), digest_size=20).hexdigest()}"


async def record(writer: DecisionWriter, course: Course, answer: Answer, result: TalkResult | None) -> None:
    """The decision and its audit entry, in one transaction."""
    spec, row = course.asked.spec, _row(course, answer, result)
    data = {"pack": spec.pack, "bot": spec.bot, "action": row["action"], "prompt_version": answer.prompt_version}
    note = AuditNote(course.asked.principal, "decision.made", answer.decision_id, data)
    await writer.write(row, note)


def _row(course: Course, answer: Answer, result: TalkResult | None) -> dict[str, Any]:
    asked = course.asked
    tenant_id, spec = asked.principal.tenant_id, asked.spec
    turn_id = new_id("turn")
    scores = [citation.score for citation in answer.citations]
    return {
        "id": answer.decision_id,
        "tenant_id": tenant_id,
        "created_at": asked.now,
        "pack": spec.pack,
        "subject_id": subject_of(asked.principal.user),
        "trigger_id": turn_id,
        "trigger_key": trigger_key(tenant_id, spec.pack, turn_id),
        "action": REFUSED if answer.refused else ANSWERED,
        "confidence": max(scores, default=0.0),
        "reason": _reason(course, answer),
        "state": DecisionState.DONE,
        "inputs": _inputs(course),
        "evidence": _evidence(course),
        "prompt_name": answer.prompt,
        "prompt_version": answer.prompt_version,
        "model": answer.model or None,
        "provider": answer.provider or None,
        "route": answer.route or None,
        "experiment": spec.experiment,
        "arm": spec.arm,
        "answer": {"text": answer.text, "refused": answer.refused, "grounded": answer.grounded},
        "tool_calls": [outcome.as_row() for outcome in result.tool_outcomes] if result else [],
        "tokens_in": answer.input_tokens,
        "tokens_out": answer.output_tokens,
        "cost_micros": answer.cost_micros,
        "duration_ms": answer.duration_ms,
        "model_ms": answer.model_ms,
    }


def _reason(course: Course, answer: Answer) -> str:
    if course.small_talk:
        return "The message asks nothing."
    if answer.citations:
        return f"The answer cites {len(answer.citations)} of {len(course.evidence)} passages."
    if answer.grounded:
        return "The answer rests on the results of tools."
    if not answer.refused:
        return "The assistant may answer without evidence."
    return "No passage supports an answer." if answer.model else "The documents hold no strong evidence."


def _inputs(course: Course) -> dict[str, Any]:
    """`found` is how many of the passages were there before any tool ran."""
    asked = course.asked
    return {
        "bot": asked.spec.bot,
        "revision": asked.spec.revision,
        "question": asked.question,
        "query": course.query,
        "today": asked.now.date().isoformat(),
        "history": [{"role": turn.role, "text": turn.text} for turn in asked.history.turns],
        "summary": asked.history.summary,
        "passages": [passage_row(passage) for _, passage in course.evidence],
        "found": course.found,
    }


def _evidence(course: Course) -> list[dict[str, Any]]:
    """The cited passages, whole."""
    return [
        {
            "chunk_id": passage.chunk_id,
            "document_id": passage.document_id,
            "title": passage.title,
            "score": round(passage.score, 4),
            "quote": passage.text,
        }
        for number, passage in course.evidence
        if number in course.cited.cited
    ]
