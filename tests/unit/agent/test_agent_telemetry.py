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
from app.telemetry import names, spans
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

AGENT_RUN, TALK = "invoke_agent leads", "invoke_agent chat"
MODEL_CALL, TOOL_RUN = "chat script-1", "execute_tool find"


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
        assert last == (TALK, None)
        tools = [] if broken else [(TOOL_RUN, TALK)]
        assert sorted(others) == [(MODEL_CALL, TALK)] * (1 if broken else 2) + tools
        assert attributes(recorded)[MODEL_CALL][names.OUTPUT_TOKENS] == (5 if broken else 20)
        ended = recorded.get_finished_spans()
        assert {span.status.is_ok for span in ended if span.name != TOOL_RUN} == {not broken}
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
    assert last == (AGENT_RUN, None)
    assert sorted(others) == [(MODEL_CALL, AGENT_RUN)] * 3 + [(TOOL_RUN, AGENT_RUN)]
    by_name = attributes(recorded)
    shown = {
        names.OPERATION: names.INVOKE_AGENT,
        names.AGENT: "leads",
        names.PROMPT: "test",
        names.PROMPT_VERSION: 1,
        names.STEPS: 2,
    }
    assert by_name[AGENT_RUN] == shown
    assert by_name[MODEL_CALL][names.INPUT_TOKENS] == 100
    assert by_name[TOOL_RUN] == {
        names.OPERATION: names.EXECUTE_TOOL,
        names.TOOL: "find",
        names.TOOL_TYPE: "function",
        names.TOOL_STATE: "done",
    }
    assert not any("private" in span.to_json() for span in recorded.get_finished_spans())
    assert list(foreign_label_values(room.metrics.registry)) == []
    assert room.count("tool_calls_total", tool="unknown", outcome="denied") == 1


async def test_a_call_is_on_its_packs_bill_and_its_tokens_are_seen_one_by_one(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, ScriptedModel(GOOD_ANSWER, GOOD_ANSWER), tools=[FIND])
    arguments = {"values": {"message": "hi"}, "facts": {}, "subject_id": "lead_1", "deadline_s": 5}
    for pack in ("", "teams"):
        spec = AgentSpec("leads", Verdict, (), ROUTE, pack=pack)
        await room.agent.run(AGENT, spec, prompt(), fresh=True, **arguments)
    sample = room.metrics.registry.get_sample_value
    costs = [sample("trellis_run_cost_usd_total", {"pack": pack}) for pack in ("leads", "teams")]
    assert costs[0] == costs[1] > 0
    assert sum(costs) == sample("trellis_model_cost_usd_total", {"provider": "scripted"})
    tokens = {"provider": "scripted", "direction": "input"}
    assert sample("trellis_model_call_tokens_count", tokens) == 2
    assert sample("trellis_model_call_tokens_sum", tokens) == sample("trellis_model_tokens_total", tokens)


async def test_a_providers_failures_are_there_at_zero_before_its_first_call(db: Database, clock: StillClock) -> None:
    room = build_room(db, clock, ScriptedModel(GOOD_ANSWER))
    labels = {"provider": "scripted", "route": ROUTE, "outcome": "error"}
    assert room.metrics.registry.get_sample_value("trellis_model_call_duration_seconds_count", labels) == 0
