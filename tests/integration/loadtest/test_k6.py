"""k6 itself over a stand-in of the service: what it asks, what it says, and how it ends."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer

from infra.phases import PHASES
from loadtest.k6 import K6, K6Error
from loadtest.plan import SHARES, Scenario, Stage, mix, smoke, steady
from loadtest.results import Kind
from loadtest.script import Target
from loadtest.stub.stand_in import StandIn

MEDIUM = PHASES["medium"]
QUESTIONS = ("What is leave?", "Who pays?")


def target(address: str = "http://127.0.0.1:1") -> Target:
    return Target(address, ("one", "two"), "handbook", "notes", QUESTIONS, QUESTIONS)


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with TestServer(StandIn(errors=0.0).app(), host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


async def test_k6_asks_for_every_kind_and_says_what_became_of_each(address: str, tmp_path: Path) -> None:
    scenario = Scenario("tiny", smoke(mix(MEDIUM)).rates, (Stage(2.0, 3.0),), warm_s=1.0)
    run = await K6(say=lambda _: None).run(scenario, MEDIUM, target(address), tmp_path)
    found = {each.kind: each for each in run.endpoints(MEDIUM)}
    assert run.dropped == 0
    assert (run.errors, run.crossed, run.aborted) == ({}, (), "")
    assert found[Kind.CHAT].asked == pytest.approx(scenario.expected(Kind.CHAT), abs=2)
    assert all(found[kind].asked for kind in (*SHARES, Kind.LEAD, Kind.DOCUMENT, Kind.BATCH))
    assert run.cached(Kind.CHAT, Kind.STREAM) == 0
    stream = found[Kind.STREAM]
    assert stream.first_token is not None
    assert stream.answer is not None
    assert stream.own is not None
    assert stream.own.p50_s < stream.first_token.p50_s < stream.answer.p50_s
    assert found[Kind.CHAT].first_token is None
    assert run.series.stat().st_size > 0


async def test_a_service_that_only_fails_is_hopeless_and_not_asked_to_the_end(tmp_path: Path) -> None:
    scenario = steady("hopeless", {Kind.CHAT: 5.0}, 1.0, 60)
    async with asyncio.timeout(45):
        run = await K6(say=lambda _: None).run(scenario, MEDIUM, target(), tmp_path)
    assert run.aborted == "http_req_failed rate<0.5"
    assert len(run.errors) == 1
    assert run.endpoints(MEDIUM)[0].failed == run.endpoints(MEDIUM)[0].asked > 0


async def test_a_cancelled_run_leaves_no_k6(address: str, tmp_path: Path) -> None:
    k6 = K6(say=lambda _: None)
    running = asyncio.create_task(k6.run(steady("long", {Kind.CHAT: 5.0}, 1.0, 60), MEDIUM, target(address), tmp_path))
    while (pid := k6.pid()) is None:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert k6.pid() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_script_that_k6_refuses_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(K6Error, match="k6 ended with"):
        await K6(say=lambda _: None).run(steady("bad", {Kind.CHAT: 1.0}, 1.0, -10), MEDIUM, target(), tmp_path)
