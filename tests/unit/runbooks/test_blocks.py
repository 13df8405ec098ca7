"""Blocks run as at one terminal, and nothing of them outlives it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from runbooks.drill.blocks import Terminal, ask, faster
from runbooks.drill.rehearsal import Standing
from runbooks.pages import Block, Kind, Language
from tests.support.examples import examples
from tests.support.on_loopback import on_loopback

SH = Block("Mitigate", Language.SH, Kind.MUTATE, "")


def sh(body: str) -> Block:
    return replace(SH, body=body)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    programs = {"kubectl": ("echo", "shim of"), "psql": ("cat",)}
    return Terminal(tmp_path / "terminal", Standing(environment={"WORD": "of the stage"}, programs=programs))


async def test_what_a_block_sets_is_there_in_the_next(terminal):
    with terminal:
        assert (await terminal.run(sh("NAME='a b'\nexport OTHER=c"))).code == 0
        told = await terminal.run(sh('echo "$NAME/$OTHER/$WORD"'))
    assert told.out == "a b/c/of the stage\n"


async def test_a_block_ends_where_a_command_of_it_fails_and_both_outputs_are_kept(terminal):
    with terminal:
        failed = await terminal.run(sh("echo before\necho reason >&2\nfalse | cat\necho after"))
        unset = await terminal.run(sh('echo "$NO_SUCH_WORD"'))
    assert (failed.code, failed.out, failed.err) == (1, "before\n", "reason\n")
    assert unset.code != 0
    assert "before" in str(failed)
    assert "reason" in str(failed)


async def test_the_stages_programs_come_first_and_sql_goes_to_psql(terminal):
    with terminal:
        assert (await terminal.run(sh("kubectl get pods"))).out == "shim of get pods\n"
        sql = await terminal.run(Block("Verify", Language.SQL, Kind.VERIFY, "SELECT '$x';"))
    # `cat` stands for psql and is given its options: the statement came as it is, or cat would have said so.
    assert sql.code != 0


async def test_a_secret_of_this_environment_is_not_the_pages(monkeypatch, tmp_path):
    monkeypatch.setenv("TRELLIS_MODEL_KEY", "sk-real")
    monkeypatch.setenv("PGHOST", "production")
    with Terminal(tmp_path, Standing()) as terminal:
        told = await terminal.run(sh('echo "${TRELLIS_MODEL_KEY-none} ${PGHOST-none}"'))
    assert told.out == "none none\n"


async def test_a_block_that_does_not_end_is_ended_with_what_it_started(terminal, tmp_path):
    pid = tmp_path / "pid"
    with terminal, pytest.raises(TimeoutError):
        await terminal.run(sh(f"sleep 60 & echo $! > {pid}; wait"), limit_s=1.0)
    assert gone(int(pid.read_text()))


async def test_an_interrupted_block_leaves_nothing(terminal, tmp_path):
    pid = tmp_path / "pid"
    with terminal:
        task = asyncio.create_task(terminal.run(sh(f"sleep 60 & echo $! > {pid}; wait")))
        while not pid.exists() or not pid.read_text():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert gone(int(pid.read_text()))


async def test_what_a_block_left_running_goes_on_until_the_terminal_ends(terminal, tmp_path):
    pid = tmp_path / "pid"
    with terminal:
        assert (await terminal.run(sh(f"sleep 60 & echo $! > {pid}"))).code == 0
        left = int(pid.read_text())
        assert not gone(left, patience_s=0.0)
    assert gone(left)


def gone(pid: int, patience_s: float = 5.0) -> bool:
    """Whether the process ended; a zombie that nobody waits for did."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


Answer = Callable[[str], dict[str, Any]]


@pytest.fixture
async def prometheus() -> AsyncIterator[tuple[str, list[str]]]:
    """Its address and what it was asked; it has one series, and no query named `wrong`."""
    asked: list[str] = []

    async def query(request: web.Request) -> web.Response:
        asked.append((await request.post())["query"])
        if asked[-1] == "wrong":
            return web.json_response({"status": "error", "error": "parse error"}, status=400)
        if asked[-1] == "scalar(x)":
            return web.json_response({"status": "success", "data": {"resultType": "scalar", "result": [1, "4"]}})
        series = [{"metric": {"__name__": "up", "job": "api"}, "value": [1, "1"]}]
        found = [] if asked[-1] == "none" else series
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": found}})

    app = web.Application()
    app.router.add_post("/api/v1/query", query)
    async with on_loopback(app) as address:
        yield address, asked


async def test_a_query_is_a_line_for_each_series_and_its_windows_pass_faster(prometheus, tmp_path):
    address, asked = prometheus
    with Terminal(tmp_path, Standing(prometheus=address, pace=60.0)) as terminal:
        told = await terminal.run(Block("Verify", Language.PROMQL, Kind.VERIFY, "rate(x[5m])"))
    assert (told.code, told.out) == (0, 'up{job="api"} 1')
    assert asked == ["rate(x[5000ms])"]


async def test_a_query_that_is_wrong_or_has_nobody_to_ask_is_an_error_and_no_empty_answer(prometheus, tmp_path):
    address, _asked = prometheus
    assert (await ask(address, "none")).out == ""
    assert (await ask(address, "scalar(x)")).out == "4"
    assert (await ask(address, "wrong")).code == 1
    assert (await ask("http://127.0.0.1:1", "up")).code == 1
    with Terminal(tmp_path, Standing()) as terminal:
        assert (await terminal.run(Block("Verify", Language.PROMQL, Kind.VERIFY, "up"))).code == 1


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("rate(x[5m])", "rate(x[5000ms])"),
        ("max_over_time(x[1h30m:1m] offset 1d)", "max_over_time(x[90000ms:1000ms] offset 1440000ms)"),
        ("x offset -1h", "x offset -60000ms"),
        ('x{window="5m"} * 3600', 'x{window="5m"} * 3600'),
        ("rate(x[10ms])", "rate(x[1ms])"),
        ("x:rate5m > 5", "x:rate5m > 5"),
    ],
)
def test_only_windows_and_offsets_are_divided(query: str, wanted: str):
    assert faster(query, 60.0) == wanted


@settings(max_examples=examples(40))
@given(minutes=st.integers(1, 10_000))
def test_at_the_pace_of_production_a_window_stays_as_long(minutes: int):
    assert faster(f"rate(x[{minutes}m])", 1.0) == f"rate(x[{minutes * 60_000}ms])"
