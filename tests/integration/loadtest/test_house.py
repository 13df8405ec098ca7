"""The house of phase 'small' on real servers: furnished, measured under a few requests, ended by an interruption."""

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from anyio.from_thread import start_blocking_portal

from infra.phases import PHASES, PhaseName
from loadtest.house import Furniture, House, house
from loadtest.house.furniture import QUESTIONS, ask
from loadtest.measure import GATE, Meter, meter
from loadtest.stub.pace import HOSTED
from tests.chaos.load import Client, Try, failed, session
from tests.support.components import require

FRESH, LEADS, WAIT_S = 24, 4, 300.0
SMALL = PHASES[PhaseName.SMALL]
# As small's, without its waits: what is tried here is no time.
QUICK = replace(HOSTED, first_s=0.02, tokens_s=2_000.0)


@dataclass
class Lived:
    """What a house was, seen and left behind. `cut`: how its task ended."""

    house: House
    used: Meter
    fresh: list[Try]
    known: list[Try]
    said: list[str] = field(default_factory=list)
    cut: bool = False

    @property
    def pids(self) -> list[int]:
        return [pid for roots in self.house.parts.values() for pid in roots]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    """One start for the module; it is ended as Ctrl-C ends it, by cancelling the task that holds it."""
    for component in ("postgres", "redis", "prometheus", "alertmanager"):
        require(component)
    folder, said = tmp_path_factory.mktemp("house") / "small", list[str]()
    found: Future[Lived] = Future()

    async def live() -> None:
        furniture = Furniture(tenants=2, known=3)
        async with house(folder, SMALL, model=QUICK, furniture=furniture, say=said.append) as there:
            found.set_result(await _asked(there, said))
            await asyncio.Event().wait()

    async def begin() -> None:
        task.append(asyncio.create_task(live()))
        task[0].add_done_callback(lambda done: _tell(done, found))

    async def interrupt() -> bool:
        task[0].cancel()
        await asyncio.wait(task)
        return task[0].cancelled()

    task: list[asyncio.Task[None]] = []
    with start_blocking_portal() as portal:
        portal.call(begin)
        seen = found.result(WAIT_S)
        assert [pid for pid in seen.pids if not Path(f"/proc/{pid}").exists()] == []
        seen.cut = portal.call(interrupt)
        yield seen
    shutil.rmtree(folder)


def _tell(done: "asyncio.Task[None]", found: "Future[Lived]") -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None and not found.done():
        found.set_exception(error)


async def _asked(there: House, said: list[str]) -> Lived:
    async with session() as web:
        clients = [Client(web, there.address, key) for key in there.keys]

        async def each(count: int, do: Callable[[Client, int], Awaitable[Try]]) -> list[Try]:
            return list(await asyncio.gather(*(do(clients[n % len(clients)], n) for n in range(count))))

        async with meter(there, lambda: os.getpid()) as used:
            known = await each(len(there.keys) * len(there.known), lambda one, n: ask(one, there.known[n // 2]))
            fresh = await each(FRESH, lambda one, n: ask(one, f"{QUESTIONS[n % 12]} I am here for {n} days."))
            leads = await each(LEADS, _lead)
            await _decided(clients)
            await _scraped(web, there, time.time())
        assert failed(leads) == 0, leads
        return Lived(there, used, fresh, known, said)


async def _scraped(web: aiohttp.ClientSession, there: House, since: float) -> None:
    """The gauge is read once a second; a busy machine may take longer."""
    query = {"query": f"timestamp(trellis_http_in_flight) > {since:.3f}"}
    async with asyncio.timeout(WAIT_S):
        while True:
            async with web.get(f"{there.prometheus}/api/v1/query", params=query) as response:
                if (await response.json())["data"]["result"]:
                    break
            await asyncio.sleep(0.2)
    # The meter looks at whole seconds.
    await asyncio.sleep(1)


async def _lead(client: Client, number: int) -> Try:
    who = {"external_id": f"e-{number}", "name": f"P {number}", "email": f"p{number}@example.org"}
    return await client.post("/v1/leads", {**who, "message": "What do sensors cost?"}, Idempotency_Key=f"l-{number}")


async def _decided(clients: list[Client]) -> None:
    for client in clients:
        while (await client.get("/v1/leads/counts")).body["by_status"]["new"]:
            await asyncio.sleep(0.1)


def test_it_is_the_phase_with_its_servers_and_says_what_is_not_real(lived: Lived) -> None:
    assert lived.house.backends["database"] == "PostgreSQL"
    assert lived.house.backends["cache"] == "Redis, one server"
    assert any("Qdrant" in note for note in lived.house.notes)
    assert any(f"'{QUICK.name}' alone takes" in note for note in lived.house.notes)
    assert set(lived.house.served) == {"api", "worker"}
    assert lived.said[-1].startswith("the house of phase 'small' is ready after")


def test_known_questions_cost_no_model_and_new_ones_do(lived: Lived) -> None:
    assert failed(lived.known) == failed(lived.fresh) == 0
    assert {each.body["cache"] for each in lived.known} == {"exact"}
    assert {each.body["cache"] for each in lived.fresh} == {"none"}
    assert all(each.body["citations"] for each in lived.fresh)
    assert lived.used.model_kinds == {"answer": FRESH, "decision": LEADS}
    assert lived.used.model_calls == FRESH + LEADS


def test_our_own_share_is_of_every_answer_and_decision(lived: Lived) -> None:
    exact, kept = lived.used.own_share, lived.used.own_share_histogram
    assert exact is not None
    assert exact.count == kept.count == FRESH + LEADS
    assert exact.mean_s == pytest.approx(kept.total / kept.count, rel=0.01)
    assert exact.p99_s is None
    assert lived.used.in_flight is not None
    assert lived.used.lag.count > 0


def test_every_part_used_processor_and_memory(lived: Lived) -> None:
    parts = {part.part: part for part in lived.used.parts}
    ours = {"api", "worker", "postgres", "redis", "vectors", "model stub", "collector stub", "prometheus", "k6", GATE}
    assert ours <= set(parts)
    for part in ("api", "worker", "postgres", "vectors"):
        assert parts[part].cpu_s > 0
        assert parts[part].memory_mib > 5
    # PostgreSQL is many processes: the first one alone does nothing while others answer.
    assert parts["api"].cpu_s > parts["model stub"].cpu_s
    assert sum(part.machine_share for part in parts.values()) < 2


def test_an_interruption_ends_every_process(lived: Lived) -> None:
    assert lived.cut
    assert lived.pids
    assert [pid for pid in lived.pids if Path(f"/proc/{pid}").exists()] == []


async def test_what_is_gone_does_not_answer(lived: Lived) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with aiohttp.ClientSession() as web:
            await web.get(f"{lived.house.address}/readyz")
