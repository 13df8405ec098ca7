"""What a run shows of itself: spans by name, labels of the catalogue, and nothing that people wrote."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.agent.loop import AgentSpec
from app.agent.model import ModelError, ToolCall
from app.storage.db import Database
from app.telemetry import spans
from app.telemetry.metrics import foreign_label_values
from tests.conftest import StillClock
from tests.support.agents import (
    AGENT,
    FIND,
    GOOD_ANSWER,
    ROUTE,
    Outside,
    ScriptedModel,
    Verdict,
    allow,
    build_room,
    prompt,
)


@dataclass
class Recorded:
    name: str
    attributes: dict[str, Any]
    parent: str | None

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value


@dataclass
class RecordingTracer:
    spans: list[Recorded] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    @contextmanager
    def start_as_current_span(
        self, name: str, attributes: Mapping[str, Any], record_exception: bool = True
    ) -> Iterator[Recorded]:
        # A recorded exception brings its whole chain along, and with it what a model or a tool wrote.
        assert not record_exception
        span = Recorded(name, dict(attributes), self.open[0] if self.open else None)
        self.spans.append(span)
        self.open.append(name)
        try:
            yield span
        finally:
            self.open.pop()


async def test_a_run_is_one_trace_and_carries_no_words_of_anybody(
    db: Database, clock: StillClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracer = RecordingTracer()
    monkeypatch.setattr(spans, "tracer", lambda: tracer)
    calls = (ToolCall("c1", "find", '{"query": "private"}'), ToolCall("c2", "made up", "{}"))
    model = ScriptedModel(ModelError("down", retryable=True), calls, GOOD_ANSWER)
    room = build_room(db, clock, model, tools=[FIND, Outside(idempotent=True).tool()])
    await allow(room, "find")
    spec = AgentSpec("leads", Verdict, ("find", "send"), ROUTE)
    values = {"message": "private words"}
    await room.agent.run(AGENT, spec, prompt(), values=values, facts={}, subject_id="lead_1", deadline_s=5)
    first, *others = tracer.spans
    assert (first.name, first.parent) == (spans.AGENT_RUN, None)
    assert sorted(span.name for span in others) == [spans.MODEL_CALL] * 3 + [spans.TOOL_EXECUTE]
    assert {span.parent for span in others} == {spans.AGENT_RUN}
    by_name = {span.name: span.attributes for span in tracer.spans}
    shown = {spans.AGENT: "leads", spans.PROMPT: "test", spans.PROMPT_VERSION: 1, spans.STEPS: 2}
    assert by_name[spans.AGENT_RUN] == shown
    assert by_name[spans.MODEL_CALL][spans.INPUT_TOKENS] == 100
    assert by_name[spans.TOOL_EXECUTE] == {spans.TOOL: "find", spans.TOOL_STATE: "done"}
    assert "private" not in str(tracer.spans)
    assert list(foreign_label_values(room.metrics.registry)) == []
    assert room.count("tool_calls_total", tool="unknown", outcome="denied") == 1
