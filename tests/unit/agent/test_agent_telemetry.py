"""What a run shows of itself: spans by name, labels of the catalogue, and nothing that people wrote."""

from collections.abc import AsyncGenerator
from contextlib import nullcontext
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.agent.loop import AgentSpec
from app.agent.model import (
    Message,
    ModelError,
    ModelReply,
    ModelRequest,
    ModelStreamBroken,
    TextDelta,
    ToolCall,
    Usage,
)
from app.agent.talk import TalkSpec
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


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(spans, "tracer", lambda: provider.get_tracer("test"))
    return exporter


def shape(recorded: InMemorySpanExporter) -> list[tuple[str, str | None]]:
    """Each span by name, with its parent's name, in the order in which they ended."""
    ended = recorded.get_finished_spans()
    names = {span.context.span_id: span.name for span in ended if span.context}
    return [(span.name, names[span.parent.span_id] if span.parent else None) for span in ended]


def attributes(recorded: InMemorySpanExporter) -> dict[str, dict[str, Any]]:
    """Of the last span of each name."""
    return {span.name: dict(span.attributes or {}) for span in recorded.get_finished_spans()}


class Silent:
    """A provider that breaks off after its first words."""

    provider = "scripted"
    model = "script-1"

    async def complete(self, request: ModelRequest, *, timeout_s: float) -> ModelReply:
        raise NotImplementedError

    async def stream(self, request: ModelRequest, *, timeout_s: float) -> AsyncGenerator[TextDelta | ModelReply, None]:
        yield TextDelta("private")
        raise ModelStreamBroken("broke", retryable=True, usage=Usage(7, 5))


async def test_a_streamed_turn_is_one_trace_that_its_listener_has_no_part_in(
    db: Database, clock: StillClock, recorded: InMemorySpanExporter
) -> None:
    listener = trace.get_current_span()
    model = ScriptedModel((ToolCall("c1", "find", '{"query": "private"}'),), "private words")
    for client, broken in ((model, False), (Silent(), True)):
        recorded.clear()
        room = build_room(db, clock, client, tools=[FIND])
        await allow(room, "find")
        spec = TalkSpec("chat", ("find",), ROUTE)
        messages = (Message("user", "private"),)
        with pytest.raises(ModelStreamBroken) if broken else nullcontext():
            async for _ in room.agent.talk(
                AGENT, spec, messages, prompt=prompt(), facts={}, subject_id="t", deadline_s=5, streamed=True
            ):
                assert trace.get_current_span() is listener
        *others, last = shape(recorded)
        assert last == (spans.AGENT_RUN, None)
        tools = [] if broken else [(spans.TOOL_EXECUTE, spans.AGENT_RUN)]
        assert sorted(others) == [(spans.MODEL_CALL, spans.AGENT_RUN)] * (1 if broken else 2) + tools
        assert attributes(recorded)[spans.MODEL_CALL][spans.OUTPUT_TOKENS] == (5 if broken else 20)
        ended = recorded.get_finished_spans()
        assert {span.status.is_ok for span in ended if span.name != spans.TOOL_EXECUTE} == {not broken}
        assert not any("private" in span.to_json() for span in ended)
        assert list(foreign_label_values(room.metrics.registry)) == []


async def test_a_run_is_one_trace_and_carries_no_words_of_anybody(
    db: Database, clock: StillClock, recorded: InMemorySpanExporter
) -> None:
    calls = (ToolCall("c1", "find", '{"query": "private"}'), ToolCall("c2", "made up", "{}"))
    model = ScriptedModel(ModelError("down", retryable=True), calls, GOOD_ANSWER)
    room = build_room(db, clock, model, tools=[FIND, Outside(idempotent=True).tool()])
    await allow(room, "find")
    spec = AgentSpec("leads", Verdict, ("find", "send"), ROUTE)
    values = {"message": "private words"}
    await room.agent.run(AGENT, spec, prompt(), values=values, facts={}, subject_id="lead_1", deadline_s=5)
    *others, last = shape(recorded)
    assert last == (spans.AGENT_RUN, None)
    assert sorted(others) == [(spans.MODEL_CALL, spans.AGENT_RUN)] * 3 + [(spans.TOOL_EXECUTE, spans.AGENT_RUN)]
    by_name = attributes(recorded)
    shown = {spans.AGENT: "leads", spans.PROMPT: "test", spans.PROMPT_VERSION: 1, spans.STEPS: 2}
    assert by_name[spans.AGENT_RUN] == shown
    assert by_name[spans.MODEL_CALL][spans.INPUT_TOKENS] == 100
    assert by_name[spans.TOOL_EXECUTE] == {spans.TOOL: "find", spans.TOOL_STATE: "done"}
    assert not any("private" in span.to_json() for span in recorded.get_finished_spans())
    assert list(foreign_label_values(room.metrics.registry)) == []
    assert room.count("tool_calls_total", tool="unknown", outcome="denied") == 1
