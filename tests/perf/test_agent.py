"""CPU time of one agent run: two model calls and one reading tool, on a model that answers at once.

Run with `pytest tests/perf/test_agent.py --benchmark-only`. Times are of the CPU, of the whole process (the
database's threads too). A round is RUNS runs; the columns are milliseconds a round, so divide by RUNS.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.agent.loop import AgentResult, AgentSpec
from app.agent.model import ModelReply, ModelRequest, ToolCall
from app.agent.tools import OutcomeState, ToolCallPlan
from app.clock import system_clock
from app.ids import new_id
from app.storage.base import Base
from app.storage.db import Database
from tests.perf.figures import record
from tests.support.agents import (
    AGENT,
    FIND,
    GOOD_ANSWER,
    ROUTE,
    Outside,
    Room,
    ScriptedModel,
    Verdict,
    allow,
    build_room,
    prompt,
    reply,
)

RUNS = 100
SPEC = AgentSpec("leads", Verdict, ("find",), ROUTE)
PROMPT = prompt("Today is {{ today | trusted }}. The message:\n{{ message }}")
MESSAGE = "We are 40 people and would like to know what the plan with single sign-on costs. " * 5


async def turn(request: ModelRequest) -> ModelReply:
    if request.messages[-1].role == "tool":
        return reply(GOOD_ANSWER)
    return reply("", (ToolCall("c1", "find", '{"query": "single sign-on"}'),))


async def build(folder: Path) -> Room:
    db = Database(f"sqlite+aiosqlite:///{folder / 'trellis.db'}")
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    room = build_room(db, system_clock, ScriptedModel(turn), tools=[FIND, Outside(idempotent=True).tool()])
    await allow(room, "find", "send")
    return room


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def room(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Room]:
    made = runner.run(build(tmp_path))
    yield made
    runner.run(made.budgets.stop())
    runner.run(made.db.close())


async def run(room: Room, *, fresh: bool) -> AgentResult[Verdict]:
    values = {"today": "2026-03-02", "message": MESSAGE}
    return await room.agent.run(
        AGENT, SPEC, PROMPT, values=values, facts={}, subject_id="lead_1", deadline_s=30, fresh=fresh
    )


def measure(name: str, benchmark: Any, runner: asyncio.Runner, once: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def round_of_runs() -> Any:
        for _ in range(RUNS):
            result = await once()
        return result

    benchmark._timer = time.process_time
    result = benchmark.pedantic(lambda: runner.run(round_of_runs()), rounds=10, warmup_rounds=2)
    record(name, cpu_ms_per_run=benchmark.stats.stats.median / RUNS * 1000)
    return result


def test_one_run_of_two_model_calls_and_one_tool(benchmark: Any, runner: asyncio.Runner, room: Room) -> None:
    result = measure("agent_turn", benchmark, runner, lambda: run(room, fresh=True))
    assert (result.steps, [o.state for o in result.tool_outcomes]) == (2, [OutcomeState.DONE])


def test_the_same_run_answered_from_the_cache(benchmark: Any, runner: asyncio.Runner, room: Room) -> None:
    result = measure("agent_turn_cached", benchmark, runner, lambda: run(room, fresh=False))
    assert (result.steps, result.cost_micros) == (2, 0)


def test_two_independent_writes_with_ledger(benchmark: Any, runner: asyncio.Runner, room: Room) -> None:
    def writes() -> Coroutine[Any, Any, Any]:
        decision = new_id("dec")
        return room.executor.execute(AGENT, decision, [ToolCallPlan("send", {}, f"{decision}:{n}") for n in range(2)])

    outcomes = measure("agent_two_writes", benchmark, runner, writes)
    assert [o.state for o in outcomes] == [OutcomeState.DONE] * 2
