"""Streams over a real server: many at once, broken off, come back to, cut short by a shutdown."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from loadtest.stub.server import KEY, Latency, ModelStub, text
from tests.support.server import Server, free_port
from tests.support.sse import Sent, events_of, text_of

WORDS = 400
CHAT = "/v1/bots/handbook/chat"
LEAVE = "How many days of paid leave does everybody have?"
WAIT_S = 60
# The answer of this stub takes longer than any test waits: whoever gets past it did not wait for it.
ENDLESS = Latency(piece_s=1.0)


@asynccontextmanager
async def house(home: Path, latency: Latency, **settings: str) -> AsyncIterator[tuple["House", ModelStub]]:
    """A server with the sample's handbook, whose model is a stub in this process."""
    async with ModelStub(text(" ".join(f"word{n} [1]" for n in range(WORDS))), latency=latency) as stub:
        wanted = {
            "TRELLIS_MODEL_URL": stub.url,
            "TRELLIS_MODEL_KEY": KEY,
            "TRELLIS_MODEL_NAME": "stub",
            "TRELLIS_MODEL_INPUT_USD_PER_MILLION": "10",
            "TRELLIS_MODEL_OUTPUT_USD_PER_MILLION": "10",
            # The sample's leads wait: their decisions would ask the stub too.
            "TRELLIS_WORKER": "false",
            "TRELLIS_LOG_LEVEL": "WARNING",
            **settings,
        }
        with Server(home, free_port(), "--sample", **wanted) as server:
            await asyncio.to_thread(server.wait_ready)
            key = (home / "local.key").read_text().strip()
            connector = aiohttp.TCPConnector(limit=0)
            headers = {"Authorization": f"Bearer {key}"}
            async with aiohttp.ClientSession(server.address, connector=connector, headers=headers) as web:
                yield House(server, web), stub


@dataclass
class Reading:
    """A stream as it comes in; `close` breaks the connection."""

    answer: aiohttp.ClientResponse
    body: bytes = b""
    ended: bool = field(default=False)

    async def until(self, name: str, times: int = 1) -> None:
        """Until so many events of the name are here, or the stream ends."""
        async with asyncio.timeout(WAIT_S):
            while self.body.count(b"event: %s\n" % name.encode()) < times and not self.ended:
                part = await self.answer.content.readany()
                self.body += part
                self.ended = not part

    async def rest(self) -> list[Sent]:
        async with asyncio.timeout(WAIT_S):
            self.body += await self.answer.content.read()
        return self.events

    @property
    def events(self) -> list[Sent]:
        return events_of(self.body)

    def close(self) -> None:
        self.answer.close()


@dataclass
class House:
    server: Server
    web: aiohttp.ClientSession

    async def ask(self, message: str = LEAVE, **more: Any) -> Reading:
        answer = await self.web.post(CHAT, json={"message": message, "stream": True, **more})
        assert answer.status == 200, await answer.text()
        return Reading(answer)

    async def resume(self, where: str, last: str) -> Reading:
        answer = await self.web.get(where, headers={"Last-Event-ID": last})
        assert answer.status == 200, await answer.text()
        return Reading(answer)

    async def json(self, path: str) -> Any:
        async with asyncio.timeout(WAIT_S), self.web.get(path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def total(self, series: str) -> float:
        """The sum of the series of `trellis_` that begin so."""
        async with self.web.get("/metrics") as answer:
            found = re.findall(rf"^trellis_{re.escape(series)}.* (\S+)$", await answer.text(), re.MULTILINE)
        return sum(map(float, found))

    async def eventually(self, series: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await self.total(series):
                await asyncio.sleep(0.05)


async def left(stub: ModelStub, times: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while stub.left < times:
            await asyncio.sleep(0.02)


async def test_fifty_open_streams_hold_no_connection_of_a_pool_of_two(tmp_path):
    async with house(tmp_path, ENDLESS, TRELLIS_DATABASE_POOL_SIZE="2") as (it, stub):
        readings = await asyncio.gather(*(it.ask(f"{LEAVE} I am number {n}.") for n in range(50)))
        await asyncio.gather(*(reading.until("token") for reading in readings))
        others = ("/v1/bots", "/v1/decisions", "/v1/bots/handbook/documents", "/v1/bots/handbook/search?q=leave")
        await asyncio.gather(*(it.json(path) for path in others * 5), it.json("/readyz"))
        assert not any(b"event: done" in reading.body or reading.ended for reading in readings)
        assert stub.calls == 50
        for reading in readings:
            reading.close()
        await left(stub, 50)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_ends_the_model_call_and_what_it_used_is_billed(tmp_path, stream):
    async with house(tmp_path, Latency(piece_s=0.05), TRELLIS_STREAM_GRACE_S="0.2") as (it, stub):
        if stream:
            reading = await it.ask()
            await reading.until("token", 5)
            reading.close()
        else:
            asking = asyncio.create_task(it.web.post(CHAT, json={"message": LEAVE}))
            async with asyncio.timeout(WAIT_S):
                while stub.calls == 0:
                    await asyncio.sleep(0.02)
            asking.cancel()
        await left(stub, 1)
        await it.eventually('answers_total{cache="none",outcome="cancelled",pack="chat"}')
        # Of a whole answer nothing had come yet.
        assert stream <= await it.total('model_tokens_total{direction="output"') < WORDS
        assert await it.total('model_tokens_total{direction="input"') > 100
        assert await it.total("model_cost_usd_total{") > 0
        assert stub.answered == 1


async def test_a_broken_stream_goes_on_where_it_broke(tmp_path):
    async with house(tmp_path, Latency(piece_s=0.002), TRELLIS_STREAM_GRACE_S="30") as (it, stub):
        reading = await it.ask()
        where = reading.answer.headers["location"]
        events: list[Sent] = []
        for _ in range(4):
            await reading.until("token", 20)
            events += reading.events
            reading.close()
            reading = await it.resume(where, events[-1].id)
        events += await reading.rest()
        assert stub.calls == 1
    assert [int(event.id.rpartition(".")[2]) for event in events] == list(range(1, len(events) + 1))
    assert events[-1].name == "done"
    assert text_of(events) == events[-1].data["text"]
    assert f"word{WORDS - 1} [1]" in events[-1].data["text"]


async def test_a_server_that_is_stopped_lets_an_answer_end(tmp_path):
    async with house(tmp_path, Latency(piece_s=0.002), TRELLIS_SHUTDOWN_GRACE_S="30") as (it, _stub):
        reading = await it.ask()
        await reading.until("token")
        it.server.process.terminate()
        events = await reading.rest()
        assert events[-1].name == "done"
        assert await asyncio.to_thread(it.server.process.wait, WAIT_S) == 0


async def test_a_server_that_is_stopped_says_so_where_an_answer_does_not_end(tmp_path):
    async with house(tmp_path, ENDLESS, TRELLIS_SHUTDOWN_GRACE_S="1") as (it, stub):
        reading = await it.ask()
        await reading.until("token")
        it.server.process.terminate()
        events = await reading.rest()
        assert (events[-1].name, events[-1].data["code"]) == ("error", "shutting-down")
        assert await asyncio.to_thread(it.server.process.wait, WAIT_S) == 0
        await left(stub, 1)
        assert "Traceback" not in (tmp_path / "server.log").read_text()
