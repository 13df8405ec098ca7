"""Fifty answers being streamed by a real server with two connections to its database: everything else still answers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from loadtest.stub.server import KEY, Latency, ModelStub, text
from tests.support.isolation import events
from tests.support.server import Server, free_port, trellis

STREAMS, RESUMED = 50, 5
ANSWER = "A sensor costs four euro fifty a month [1], and whoever pays by the year saves a fifth of that [1]."
BOT = "/v1/bots/docs"
# Nothing is fast or slow by it: an endpoint that waits for a stream waits for the whole of `Latency` below.
PROMPT_S = 10.0
LONG = Latency(1.0, 1.0)


@dataclass
class Site:
    server: Server
    stub: ModelStub
    client: httpx2.AsyncClient


@dataclass
class Reader:
    """One client of one stream; `came` is all that was sent to it, `location` where it can come back to."""

    location: str = ""
    came: str = ""
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, client: httpx2.AsyncClient, message: str, leave_after: int | None = None) -> None:
        """Reads to the end, or goes away after so many events."""
        body = {"message": message, "stream": True, "history": []}
        async with client.stream("POST", f"{BOT}/chat", json=body) as answer:
            assert answer.status_code == 200
            self.location = answer.headers["location"]
            await self._read(answer, leave_after)

    async def come_back(self, client: httpx2.AsyncClient) -> None:
        headers = {"Last-Event-ID": events(self.came)[-1][0]}
        async with client.stream("GET", self.location, headers=headers) as answer:
            assert answer.status_code == 200
            await self._read(answer, None)

    async def _read(self, answer: httpx2.Response, leave_after: int | None) -> None:
        async for line in answer.aiter_lines():
            self.came += f"{line}\n"
            self.begun.set()
            if leave_after is not None and not line and len(events(self.came)) >= leave_after:
                return

    def check(self) -> None:
        """Whole, in order, nothing twice, cited."""
        came = events(self.came)
        numbers = [int(event_id.rpartition(".")[2]) for event_id, _, _ in came]
        assert numbers == list(range(1, len(came) + 1))
        assert [name for _, name, _ in came][:: len(came) - 1] == ["start", "done"]
        said = "".join(document["text"] for _, name, document in came if name == "token")
        done = came[-1][2]
        assert said.strip() == done["text"] == ANSWER
        assert [citation["number"] for citation in done["citations"]] == [1]


@pytest.fixture(params=["embedded", "postgres"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "embedded":
        return {}
    return {"TRELLIS_DATABASE_URL": request.getfixturevalue("fresh_postgres_url")}


@pytest.fixture
def prepared(tmp_path: Path, database: dict[str, str]) -> tuple[Path, int, str, dict[str, str]]:
    """A data folder with a tenant and its admin's key."""
    port, more = free_port(), {"TRELLIS_DATABASE_POOL_SIZE": "2", "TRELLIS_LOG_LEVEL": "WARNING", **database}
    trellis(tmp_path, port, "migrate", **more)
    new = ("--label", "t", "--role", "admin", "--tier", "pro", "--tenant", "streams", "--new-tenant", "Streams")
    return tmp_path, port, trellis(tmp_path, port, "keys", "create", *new, **more).stdout.split()[1], more


def started(home: Path, port: int, stub: ModelStub, more: dict[str, str]) -> Iterator[Server]:
    model = {"TRELLIS_MODEL_URL": stub.url, "TRELLIS_MODEL_KEY": KEY, "TRELLIS_MODEL_NAME": "gpt-4o-mini"}
    with Server(home, port, **model, **more) as server:
        server.wait_ready()
        yield server


@pytest.fixture
async def site(prepared: tuple[Path, int, str, dict[str, str]]) -> AsyncIterator[Site]:
    home, port, key, more = prepared
    async with ModelStub(answer=text(ANSWER), latency=LONG) as stub:
        servers = started(home, port, stub, more)
        server = await asyncio.to_thread(next, servers)
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx2.Limits(max_connections=STREAMS + 10)
        async with httpx2.AsyncClient(base_url=server.address, headers=headers, limits=limits, timeout=120) as client:
            yield Site(server, stub, client)
        await asyncio.to_thread(next, servers, None)
    assert "Traceback" not in (home / "server.log").read_text()


async def put(client: httpx2.AsyncClient, slug: str, page: str) -> None:
    """A document, until it is ready."""
    body = {"slug": slug, "title": slug.title(), "text": page}
    accepted = await client.post(f"{BOT}/documents", json=body)
    assert accepted.status_code == 202, accepted.text
    while (await client.get(accepted.headers["location"])).json()["status"] != "ready":
        await asyncio.sleep(0.05)


async def others(client: httpx2.AsyncClient) -> None:
    """A request of every kind: reads, searches, writes, a job to its end."""
    for path in ("/readyz", "/metrics", "/v1/bots", f"{BOT}/documents", f"{BOT}/search?q=sensor", "/v1/approvals"):
        answer = await client.get(path)
        assert answer.status_code == 200, (path, answer.text)
    settings = {"title": "Documents", "needs_evidence": True}
    assert (await client.put("/v1/bots/other", json=settings)).status_code == 200
    await put(client, "hours", "# Hours\n\nWe open at nine.")


@pytest.mark.timeout(280)
async def test_fifty_open_streams_leave_the_rest_of_the_service_free(site: Site) -> None:
    await put(site.client, "prices", "# Prices\n\nA sensor costs four euro fifty a month; by the year a fifth less.")
    readers = [Reader() for _ in range(STREAMS)]
    asking = [
        asyncio.create_task(
            reader.ask(site.client, f"What does a sensor cost a month? ({n})", 4 if n < RESUMED else None)
        )
        for n, reader in enumerate(readers)
    ]
    async with asyncio.timeout(60):
        await asyncio.gather(*(reader.begun.wait() for reader in readers))
    assert site.stub.calls == STREAMS
    for _ in range(3):
        async with asyncio.timeout(PROMPT_S):
            await others(site.client)
    assert not any(task.done() for task in asking[RESUMED:]), "the streams were open all the while"
    await asyncio.gather(*asking[:RESUMED])
    await asyncio.gather(*(reader.come_back(site.client) for reader in readers[:RESUMED]))
    async with asyncio.timeout(120):
        await asyncio.gather(*asking)
    for reader in readers:
        reader.check()
    assert site.stub.calls == STREAMS, "whoever came back got the same answer, not a new one"
    assert await spoken(site.client) == STREAMS


async def spoken(client: httpx2.AsyncClient) -> int:
    """How many answers the service counts."""
    lines = (await client.get("/metrics")).text.splitlines()
    counted = [line for line in lines if line.startswith('trellis_answers_total{cache="none",outcome="answered"')]
    return sum(int(float(line.rpartition(" ")[2])) for line in counted)
