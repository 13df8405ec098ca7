"""CPU time of one agent run: two model calls and one reading tool, on a model that answers at once.

`talk` asks a stub of a model endpoint in a process of its own over HTTP, on the event loop of production; what the
stub uses is not counted.

Run with `pytest tests/perf/test_agent.py --benchmark-only`. Times are of the CPU, of the whole process (the
database's threads too). A round is RUNS runs; the columns are milliseconds a round, so divide by RUNS.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvloop

from app.agent.loop import AgentResult, AgentSpec
from app.agent.model import ModelClient, ModelReply, ModelRequest, ToolCall
from app.agent.openai_compatible import OpenAiCompatible
from app.agent.talk import TalkResult, TalkSpec
from app.agent.tools import OutcomeState, ToolCallPlan
from app.clock import system_clock
from app.ids import new_id
from app.storage.base import Base
from app.storage.db import Database
from loadtest.stub.server import KEY
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
TALK = TalkSpec("chat", ("find",), ROUTE)
BARE = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 800})
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
PROMPT = prompt("Today is {{ today | trusted }}. The message:\n{{ message }}")
MESSAGE = "We are 40 people and would like to know what the plan with single sign-on costs. " * 5


async def turn(request: ModelRequest) -> ModelReply:
    if request.messages[-1].role == "tool":
        return reply(GOOD_ANSWER)
    return reply("", (ToolCall("c1", "find", '{"query": "single sign-on"}'),))


async def build(folder: Path, model: ModelClient) -> Room:
    db = Database(f"sqlite+aiosqlite:///{folder / 'trellis.db'}")
    async with db.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    room = build_room(db, system_clock, model, tools=[FIND, Outside(idempotent=True).tool()])
    await allow(room, "find", "send")
    return room


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def room(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Room]:
    made = runner.run(build(tmp_path, ScriptedModel(turn)))
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


@contextmanager
def stub_process() -> Iterator[str]:
    """The address of a model that calls a tool and then says twenty words."""
    command = [sys.executable, "-m", "loadtest.stub.server", "0", "--tool", "--words", "20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def build_talking(stack: AsyncExitStack, folder: Path, url: str) -> Room:
    session = await stack.enter_async_context(aiohttp.ClientSession())
    room = await build(folder, OpenAiCompatible(session, url, "m", provider="stub", api_key=KEY))
    stack.push_async_callback(room.db.close)
    stack.push_async_callback(room.budgets.stop)
    return room


async def talk(room: Room, *, streamed: bool) -> TalkResult:
    messages = PROMPT.render(today="2026-03-02", message=MESSAGE)
    turn = room.agent.talk(
        AGENT, TALK, messages, prompt=PROMPT, facts={}, subject_id="turn_1", deadline_s=30, streamed=streamed
    )
    result = [item async for item in turn][-1]
    assert isinstance(result, TalkResult)
    return result


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_one_turn_of_talk_over_http(benchmark: Any, tmp_path: Path, streamed: bool) -> None:
    with stub_process() as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        room = runner.run(build_talking(stack, tmp_path, url))
        name = f"agent_talk_{'streamed' if streamed else 'whole'}"
        result = measure(name, benchmark, runner, lambda: talk(room, streamed=streamed))
        assert (result.steps, len(result.text.split()), [o.state for o in result.tool_outcomes]) == (
            2,
            20,
            [OutcomeState.DONE],
        )
        runner.run(stack.aclose())


async def bare_turn(session: aiohttp.ClientSession, url: str) -> int:
    """What any client pays: the same two calls, whole, with nothing around them."""
    read = 0
    for _ in range(2):
        async with session.post(f"{url}/chat/completions", data=BARE, headers=HEADERS) as response:
            read += len(orjson.loads(await response.read())["choices"])
    return read


def test_two_bare_calls_over_http(benchmark: Any) -> None:
    with stub_process() as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()

        async def opened() -> aiohttp.ClientSession:
            return await stack.enter_async_context(aiohttp.ClientSession())

        session = runner.run(opened())
        assert measure("agent_bare_calls", benchmark, runner, lambda: bare_turn(session, url)) == 2
        runner.run(stack.aclose())
