"""An agent that answers in free text, whole or streamed: the same turn either way."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
import pytest

from app.agent.budget_store import DailyCaps
from app.agent.budgets import Caps
from app.agent.model import Message, ModelError, ModelReply, ModelRequest, TextDelta, ToolCall, Usage
from app.agent.routing import DeadlineExceeded, ModelUnavailable
from app.agent.steps import AgentFailed
from app.agent.talk import TalkItem, TalkResult, TalkSpec, TextReset, ToolEnded, ToolStarted
from app.agent.tools import OutcomeState, ToolContext
from app.errors import BudgetExceeded
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import (
    AGENT,
    FIND,
    ROUTE,
    FindArgs,
    Outside,
    Room,
    ScriptedModel,
    allow,
    build_room,
    prompt,
    reply,
)

SPEC = TalkSpec("chat", ("find", "send"), ROUTE, max_steps=3)
MESSAGES = (Message("system", "You help."), Message("user", "Is single sign-on in?"))
ANSWER = "Yes, from ten people on."
both = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


def find(query: str = "sso", call_id: str = "c1") -> ToolCall:
    return ToolCall(call_id, "find", orjson.dumps({"query": query}).decode())


async def room_with(db: Database, clock: StillClock, model: ScriptedModel, **settings: Any) -> Room:
    room = build_room(db, clock, model, **({"tools": [FIND, Outside(idempotent=True).tool()]} | settings))
    await allow(room, "find", "send")
    return room


def talk(
    room: Room, spec: TalkSpec = SPEC, *, streamed: bool = True, deadline_s: float = 5.0
) -> AsyncGenerator[TalkItem, None]:
    return room.agent.talk(
        AGENT,
        spec,
        MESSAGES,
        prompt=prompt(),
        facts={"q": 1},
        subject_id="turn_1",
        deadline_s=deadline_s,
        streamed=streamed,
    )


async def hear(room: Room, spec: TalkSpec = SPEC, **settings: Any) -> tuple[list[TalkItem], TalkResult]:
    *items, result = [item async for item in talk(room, spec, **settings)]
    assert isinstance(result, TalkResult)
    return items, result


def text_of(items: list[TalkItem]) -> str:
    """What a listener has before it at the end."""
    said = ""
    for item in items:
        if isinstance(item, TextReset):
            said = ""
        elif isinstance(item, TextDelta):
            said += item.text
    return said


@both
async def test_the_answer_comes_with_what_it_took(db: Database, clock: StillClock, streamed: bool) -> None:
    model = ScriptedModel((find(),), ANSWER)
    room = await room_with(db, clock, model)
    items, result = await hear(room, streamed=streamed)
    assert (result.text, result.steps, result.usage, result.cost_micros) == (ANSWER, 2, Usage(200, 40), 280)
    assert (result.model, result.provider, result.route) == ("script-1-2026", "scripted", ROUTE)
    assert (result.finish_reason, result.duration_ms > result.model_ms >= 0) == ("stop", True)
    assert text_of(items) == ANSWER
    assert sum(isinstance(item, TextDelta) for item in items) == (5 if streamed else 1)
    assert [type(item) for item in items[:2]] == [ToolStarted, ToolEnded]
    assert items[0] == ToolStarted("1.0", "find")
    assert isinstance(items[1], ToolEnded)
    assert (items[1].call_id, items[1].outcome.state, items[1].outcome.result) == ("1.0", "done", ["about sso"])
    assert result.tool_outcomes == (items[1].outcome,)
    first, second = model.asked
    assert (first.messages, first.answer_schema, first.facts) == (MESSAGES, None, {"q": 1})
    assert [tool.name for tool in first.tools] == ["find"]
    assert [message.role for message in second.messages] == ["system", "user", "assistant", "tool"]
    assert room.count("agent_run_duration_seconds_count", agent="chat", outcome="done") == 1
    assert (await room.budgets.usage(AGENT.tenant_id)).spent.tokens == 240


@both
async def test_nothing_comes_from_the_cache_of_replies(db: Database, clock: StillClock, streamed: bool) -> None:
    model = ScriptedModel("one", "two")
    room = await room_with(db, clock, model)
    assert [(await hear(room, streamed=streamed))[1].text for _ in range(2)] == ["one", "two"]


def both_at_once(text: str, *calls: ToolCall) -> Any:
    async def step(_request: ModelRequest) -> ModelReply:
        return reply(text, calls)

    return step


async def test_what_was_said_before_a_tool_call_is_taken_back(db: Database, clock: StillClock) -> None:
    model = ScriptedModel(both_at_once("Let me look.", find()), ANSWER)
    room = await room_with(db, clock, model)
    items, result = await hear(room)
    kinds = [type(item) for item in items]
    assert kinds[:6] == [TextDelta, TextDelta, TextDelta, TextReset, ToolStarted, ToolEnded]
    assert text_of(items) == result.text == ANSWER
    quiet, _ = await hear(
        await room_with(db, clock, ScriptedModel(both_at_once("Hm.", find()), ANSWER)), streamed=False
    )
    assert [type(item) for item in quiet] == [ToolStarted, ToolEnded, TextDelta]


@both
async def test_refusals_and_bad_calls_are_shown_and_told_as_in_a_run(
    db: Database, clock: StillClock, streamed: bool
) -> None:
    outside = Outside(idempotent=True)
    calls = (ToolCall("w", "send", "{}"), ToolCall("x", "y" * 100, "{}"), ToolCall("z", "find", "{"), find("good", "f"))
    model = ScriptedModel(calls, ANSWER)
    room = await room_with(db, clock, model, tools=[FIND, outside.tool()])
    items, result = await hear(room, streamed=streamed)
    started = [item for item in items if isinstance(item, ToolStarted)]
    ended = [item for item in items if isinstance(item, ToolEnded)]
    assert [item.tool for item in started] == ["send", "y" * 64, "find", "find"]
    assert [item.call_id for item in started] == [item.call_id for item in ended] == ["1.0", "1.1", "1.2", "1.3"]
    assert [o.state.value for o in result.tool_outcomes] == ["denied", "denied", "failed", "done"]
    assert outside.runs == 0


@both
async def test_the_last_step_has_no_tools(db: Database, clock: StillClock, streamed: bool) -> None:
    model = ScriptedModel((find("1"),), (find("2"),), ANSWER)
    room = await room_with(db, clock, model)
    assert (await hear(room, streamed=streamed))[1].steps == 3
    assert [bool(request.tools) for request in model.asked] == [True, True, False]
    room = await room_with(db, clock, ScriptedModel((find(),)))
    with pytest.raises(AgentFailed, match="went on asking for tools"):
        await hear(room, streamed=streamed)


@both
async def test_an_empty_answer_is_a_failure(db: Database, clock: StillClock, streamed: bool) -> None:
    async def filtered(_request: ModelRequest) -> ModelReply:
        return replace(reply("  "), finish_reason="content_filter")

    room = await room_with(db, clock, ScriptedModel(filtered))
    with pytest.raises(AgentFailed, match=r"'chat' gave an empty answer \(content_filter\)"):
        await hear(room, streamed=streamed)
    assert room.count("agent_run_duration_seconds_count", agent="chat", outcome="failed") == 1


@both
async def test_caps_budgets_and_dead_providers_come_through(db: Database, clock: StillClock, streamed: bool) -> None:
    async def wordy(_request: ModelRequest) -> ModelReply:
        return reply("", (find(),), usage=Usage(900, 100))

    model = ScriptedModel(wordy, ANSWER)
    room = await room_with(db, clock, model)
    with pytest.raises(BudgetExceeded):
        await hear(room, replace(SPEC, max_tokens=100, caps=Caps(tokens=1100)), streamed=streamed)
    assert model.calls == 1
    assert room.count("agent_run_duration_seconds_count", agent="chat", outcome="refused") == 1
    room = await room_with(db, clock, ScriptedModel(ANSWER), caps=DailyCaps(cost_micros=10))
    with pytest.raises(BudgetExceeded):
        await hear(room, streamed=streamed)
    room = await room_with(db, clock, ScriptedModel(ModelError("down", retryable=False)))
    with pytest.raises(ModelUnavailable):
        await hear(room, streamed=streamed)


async def hang(_request: ModelRequest) -> ModelReply:
    await asyncio.sleep(30)
    return reply(ANSWER)


@both
async def test_a_turn_ends_at_its_deadline_and_a_cap_on_time_is_a_budget(
    db: Database, clock: StillClock, streamed: bool
) -> None:
    room = await room_with(db, clock, ScriptedModel(hang))
    with pytest.raises(DeadlineExceeded):
        await hear(room, streamed=streamed, deadline_s=0.05)
    assert room.count("agent_run_duration_seconds_count", agent="chat", outcome="timeout") == 1
    with pytest.raises(BudgetExceeded, match="cap on time"):
        await hear(room, replace(SPEC, caps=Caps(seconds=0.05)), streamed=streamed)


@both
async def test_a_turn_ends_at_its_deadline_in_the_middle_of_a_tool(
    db: Database, clock: StillClock, streamed: bool
) -> None:
    async def slow(_context: ToolContext, _args: FindArgs) -> None:
        await asyncio.sleep(30)

    room = await room_with(
        db, clock, ScriptedModel((find(),), ANSWER), tools=[replace(FIND, run=slow), Outside(idempotent=True).tool()]
    )
    with pytest.raises(DeadlineExceeded):
        await hear(room, streamed=streamed, deadline_s=0.1)


@pytest.mark.parametrize("items", range(1, 9))
async def test_a_listener_may_leave_at_any_item_and_pays_for_what_was_said(
    db: Database, clock: StillClock, items: int
) -> None:
    model = ScriptedModel(both_at_once("Let me look.", find()), ANSWER)
    room = await room_with(db, clock, model)
    async with aclosing(talk(room)) as turn:
        for _ in range(items):
            await anext(turn)
    usage = await room.budgets.usage(AGENT.tenant_id)
    assert usage.spent.tokens >= items
    assert all(lease.inflight.tokens == 0 for lease in room.budgets._leases.values())
    assert room.count("agent_run_duration_seconds_count", agent="chat", outcome="cancelled") == 1


async def test_a_tools_result_is_told_as_the_speaker_wants(db: Database, clock: StillClock) -> None:
    model = ScriptedModel((find(),), ANSWER)
    room = await room_with(db, clock, model)
    turn = room.agent.talk(
        AGENT,
        SPEC,
        MESSAGES,
        prompt=prompt(),
        facts={},
        subject_id="turn_1",
        deadline_s=5,
        streamed=True,
        tell=lambda outcome: {"found": len(outcome.result)},
    )
    result = [item async for item in turn][-1]
    assert isinstance(result, TalkResult)
    assert orjson.loads(model.asked[1].messages[-1].content) == {"found": 1}
    assert result.tool_outcomes[0].state is OutcomeState.DONE
    assert result.tool_outcomes[0].result == ["about sso"]
