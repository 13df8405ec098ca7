"""What a chat costs: an answer from the cache, a turn that asks a model and a tool, and the memory of the process.

Every server is a process of its own, asked over a socket; CPU is that of the whole process, its threads included. The
model is a stub in another process that answers at once. Beside the cached answer stands a FastAPI echo with the
service's own key check, beside the uncached turn a bare loop that does nothing but its two model calls and one insert;
rounds of both take turns, and the ratio is the median of the rounds'.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import aiosqlite
import orjson
import pytest
import uvloop

from app.packs.chat.sample_data import BOT
from loadtest.stub.server import KEY
from tests.perf.figures import record
from tests.perf.target import CLIENTS, Target
from tests.support.server import Server, free_port

REQUESTS = 1_500
TURNS = 300
ROUNDS = 5
MEMORY_TURNS = 200
QUESTION = "How long is the warranty on a sensor, and what does it cover?"
PROMPT = "You answer from the evidence. " * 60
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads another process's figures as Linux has them")


@contextmanager
def model_stub(*arguments: str) -> Iterator[str]:
    """The address of a model that answers at once with twenty words and a citation."""
    command = [sys.executable, "-m", "loadtest.stub.server", "0", "--words", "20", "--cite", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@pytest.fixture
def chat(tmp_path: Path) -> Iterator[Callable[..., Target]]:
    """Starts servers and ends them with the test."""
    started: list[Target] = []

    def start(name: str, path: str, *arguments: str) -> Target:
        started.append(Target.start(name, path, str(tmp_path), *arguments))
        return started[-1]

    yield start
    for target in started:
        target.end()


def from_cache(answer: Any) -> None:
    assert answer["cache"] == "exact"
    assert answer["citations"]


def asked_and_looked_up(answer: Any) -> None:
    assert answer["cache"] == "none"
    assert [tool["state"] for tool in answer["tools"]] == ["done"]


def test_cached_chat(benchmark: Any, chat: Callable[..., Target]) -> None:
    bodies = [{"message": QUESTION}] * REQUESTS
    with model_stub() as model:
        echo, ours = chat("ring", "/v1/echo"), chat("chat", "/v1/bots/known/chat", model)

        async def warm() -> None:
            for target in (echo, ours):
                await target.ready(bodies[0])
                # What was said before is part of the question: it is the same again once the memory is full of it.
                await target.round(bodies[:200], keep=False)

        async def both() -> None:
            await echo.round(bodies)
            await ours.round(bodies, check=from_cache)

        asyncio.run(warm())
        benchmark.pedantic(lambda: asyncio.run(both()), rounds=ROUNDS)
    ratios = [hit / echoed for hit, echoed in zip(ours.cpu, echo.cpu, strict=True)]
    record(
        "cached_chat",
        ratio_to_echo=statistics.median(ratios),
        lowest_ratio=min(ratios),
        highest_ratio=max(ratios),
        cpu_ms_per_hit=statistics.median(ours.cpu) * 1000,
        cpu_ms_per_echo=statistics.median(echo.cpu) * 1000,
        hits_per_s=1 / statistics.median(ours.wall),
        echoes_per_s=1 / statistics.median(echo.wall),
    )


def test_uncached_turn(benchmark: Any, chat: Callable[..., Target], tmp_path: Path) -> None:
    numbers = iter(range(1_000_000))

    def questions(count: int) -> list[dict[str, str]]:
        return [{"message": f"{QUESTION} I have bought {next(numbers)} of them."} for _ in range(count)]

    raw: list[float] = []
    with model_stub("--tool") as model:
        ours = chat("chat", "/v1/bots/asking/chat", model)

        async def warm() -> None:
            await ours.ready(questions(1)[0])
            await ours.round(questions(TURNS), keep=False)
            await raw_loop(model, tmp_path / "raw.db")

        async def both() -> None:
            raw.append(await raw_loop(model, tmp_path / "raw.db"))
            await ours.round(questions(TURNS), check=asked_and_looked_up)

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(warm())
            benchmark.pedantic(lambda: runner.run(both()), rounds=ROUNDS)
    record(
        "uncached_turn",
        cpu_ms_per_turn=statistics.median(ours.cpu) * 1000,
        lowest_cpu_ms=min(ours.cpu) * 1000,
        times_raw_loop=statistics.median(turn / bare for turn, bare in zip(ours.cpu, raw, strict=True)),
        raw_loop_cpu_ms=statistics.median(raw) * 1000,
        turns_per_s=1 / statistics.median(ours.wall),
    )


async def raw_loop(model: str, path: Path) -> float:
    """Seconds of this process's CPU for two model calls and one row that is committed, and nothing else."""
    body = {"model": "m", "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": QUESTION}]}
    packed, headers = orjson.dumps(body), {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    left = iter(range(TURNS))

    async def turns(session: aiohttp.ClientSession, db: aiosqlite.Connection) -> None:
        for _ in left:
            for _ in range(2):
                async with session.post(f"{model}/chat/completions", data=packed, headers=headers) as response:
                    answer = orjson.loads(await response.read())
            said = answer["choices"][0]["message"]["content"]
            await db.execute("INSERT INTO turns (question, answer) VALUES (?, ?)", (QUESTION, said))
            await db.commit()

    async with aiohttp.ClientSession() as session, aiosqlite.connect(path) as db:
        await db.execute("PRAGMA journal_mode=WAL")
        await db.execute("PRAGMA synchronous=NORMAL")
        await db.execute("CREATE TABLE IF NOT EXISTS turns (id INTEGER PRIMARY KEY, question TEXT, answer TEXT)")
        started = time.process_time()
        await asyncio.gather(*(turns(session, db) for _ in range(CLIENTS)))
        return (time.process_time() - started) / TURNS


def test_resident_memory(tmp_path: Path) -> None:
    port = free_port()
    with Server(tmp_path, port, "--sample", TRELLIS_LOG_LEVEL="WARNING") as server:
        server.wait_ready()
        key = (tmp_path / "local.key").read_text().strip()
        idle = memory_mb(server.process.pid)
        for number in range(MEMORY_TURNS):
            body = orjson.dumps({"message": f"How many days of holiday are there? ({number})"})
            server.call(f"/v1/bots/{BOT}/chat", key, body, Content_Type="application/json")
        used = memory_mb(server.process.pid)
    record("resident_memory", mb=used["Rss"], pss_mb=used["Pss"], idle_mb=idle["Rss"], idle_pss_mb=idle["Pss"])


def memory_mb(pid: int) -> dict[str, float]:
    """Figures of a process by their names in smaps_rollup, in MB (2**20 bytes)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
