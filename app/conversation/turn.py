"""One turn under way: who asks whom what, and what is known of it so far."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.agent.talk import TalkResult, ToolEnded, ToolStarted
from app.agent.tools import OutcomeState
from app.conversation.cited import CitedText
from app.conversation.events import Answer, CacheHit, Citation, ToolUsed
from app.conversation.evidence import Evidence, passage_row, passages_of
from app.conversation.history import History
from app.conversation.spec import AssistantSpec
from app.ids import new_id
from app.principal import Principal


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn before it runs.

    Args:
        ground: see `keys.Ground.digest`.
        key: of its answer in the cache; None where no cache may answer or keep it.
        mark: the cache's present moment, from before anything was read.
    """

    principal: Principal
    spec: AssistantSpec
    question: str
    history: History
    now: datetime
    ground: str
    key: str | None
    mark: int
    streamed: bool
    started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000

    @property
    def left_s(self) -> float:
        """Seconds until the spec's deadline."""
        return max(0.0, self.spec.deadline_s - self.elapsed_ms / 1000)


@dataclass(slots=True)
class Course:
    """What a turn came to so far. `query` is what was searched for, `found` how many passages that gave; `small_talk`:
    the message asks nothing."""

    asked: Asked
    query: str
    evidence: Evidence
    small_talk: bool = False
    cited: CitedText = field(init=False)
    tools: dict[str, ToolUsed] = field(default_factory=dict)
    tool_results: list[Any] = field(default_factory=list)
    rests_on_tools: bool = False
    found: int = field(init=False)

    def __post_init__(self) -> None:
        self.found = len(self.evidence)
        self.cited = CitedText(self.evidence, self._linked_texts)

    def started(self, item: ToolStarted) -> ToolUsed:
        used = self.tools[item.call_id] = ToolUsed(item.call_id, item.tool, "started")
        return used

    def ended(self, item: ToolEnded) -> ToolUsed:
        outcome = item.outcome
        used = ToolUsed(item.call_id, outcome.tool, outcome.state.value, round(outcome.duration_ms, 3), outcome.error)
        self.tools[item.call_id] = used
        if outcome.state is OutcomeState.DONE:
            self.tool_results.append(outcome.result)
            self.rests_on_tools |= not passages_of(outcome)
        return used

    @property
    def citations(self) -> tuple[Citation, ...]:
        return tuple(self.evidence.citation(number) for number in sorted(self.cited.cited))

    @property
    def grounded(self) -> bool:
        return bool(self.cited.cited) or self.rests_on_tools

    @property
    def rests_on_documents(self) -> bool:
        """Whether nothing but the bot's documents had a say: until they change the same question has this answer."""
        return not self.rests_on_tools and all(used.state == OutcomeState.DONE for used in self.tools.values())

    @property
    def refused(self) -> bool:
        """An answer that cites nothing, where answers must, is none."""
        return self.asked.spec.needs_evidence and not self.grounded and not self.small_talk

    @property
    def facts(self) -> Mapping[str, Any]:
        """The turn for the offline model; see `offline.TurnFacts`."""
        passages = [{"number": number, **passage_row(passage)} for number, passage in self.evidence]
        return {"question": self.asked.question, "query": self.query, "passages": passages}

    def answer(self, text: str, result: TalkResult | None) -> Answer:
        """The finished answer; `result` is None where no model was asked."""
        spec = self.asked.spec
        return Answer(
            text=text,
            citations=self.citations,
            tools=tuple(self.tools.values()),
            refused=self.refused,
            grounded=self.grounded,
            cache=CacheHit.NONE,
            model=result.model if result else "",
            provider=result.provider if result else "",
            route=result.route if result else "",
            prompt=spec.prompt.name,
            prompt_version=spec.prompt.version,
            input_tokens=result.usage.input_tokens if result else 0,
            output_tokens=result.usage.output_tokens if result else 0,
            cached_tokens=result.usage.cached_tokens if result else 0,
            cost_micros=result.cost_micros if result else 0,
            saved_micros=0,
            model_ms=result.model_ms if result else 0.0,
            duration_ms=self.asked.elapsed_ms,
            decision_id=new_id("dec"),
            experiment=spec.experiment,
            arm=spec.arm,
        )

    def _linked_texts(self) -> list[str]:
        return [self.asked.question, *(str(result) for result in self.tool_results)]
