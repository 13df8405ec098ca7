"""A stored turn made again from what it saw, by the model that answers now; nothing is written."""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from app.agent.offline import OFFLINE
from app.agent.talk import TalkResult
from app.conversation.evidence import Evidence, passage_of
from app.conversation.history import History
from app.conversation.phrases import Phrases
from app.conversation.spec import AssistantSpec
from app.conversation.turn import Asked, Course
from app.conversation.upstream import Upstream
from app.governance.models import Decision
from app.memory import Turn
from app.principal import Principal


@dataclass(frozen=True, slots=True)
class Replayed:
    """How the turn came out now. `differences` is empty where it came out the same."""

    differences: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Replayer:
    """Uses the stored question, history and passages; tools that read run again, and see today's rows."""

    upstream: Upstream
    phrases: Phrases

    async def replay(self, principal: Principal, spec: AssistantSpec, decision: Decision) -> Replayed:
        """`spec` has the decision's own prompt version. Raises what the model raises."""
        if decision.model is None:
            return Replayed((), "No model was asked: the documents held no strong evidence.")
        course = _course(principal, spec, decision, small_talk=self._small_talk(decision))
        model = ""
        async with aclosing(self.upstream.said(course)) as items:
            async for item in items:
                if isinstance(item, TalkResult):
                    model = item.model
        now = {"text": course.cited.text, "refused": course.refused, "evidence": _cited(course)}
        before = {
            "text": decision.answer["text"],
            "refused": decision.answer["refused"],
            "evidence": [row["chunk_id"] for row in decision.evidence],
        }
        return Replayed(_differences(before, now), _note(decision, model))

    def _small_talk(self, decision: Decision) -> bool:
        return self.phrases.small_talk(decision.inputs["question"]) is not None


def _course(principal: Principal, spec: AssistantSpec, decision: Decision, *, small_talk: bool) -> Course:
    inputs = decision.inputs
    now = datetime.combine(date.fromisoformat(inputs["today"]), time(), UTC)
    turns = tuple(Turn(turn["role"], turn["text"], now) for turn in inputs["history"])
    passages = [passage_of(row) for row in inputs["passages"][: inputs["found"]]]
    history = History(turns, inputs["summary"])
    asked = Asked(principal, spec, inputs["question"], history, now, ground="", key=None, mark=0, streamed=False)
    return Course(asked, inputs["query"], Evidence(passages), small_talk)


def _cited(course: Course) -> Sequence[str]:
    return [passage.chunk_id for number, passage in course.evidence if number in course.cited.cited]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}: was {before[name]!r}, is {now[name]!r}" for name in before if before[name] != now[name])


def _note(decision: Decision, model: str) -> str:
    if model != decision.model:
        return f"It was made by {decision.model}; {model} answered now."
    if model == OFFLINE:
        return "The offline model is deterministic: a difference means that rules or records changed since."
    return f"{model} may answer differently to the same question: a difference is no fault by itself."
