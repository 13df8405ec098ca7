"""A service that is none: answers what the gate's script sends, at a stated pace. The gate tries itself on it.

python -m loadtest.stub.stand_in 0 --slower 1.3 --errors 0.01    prints its address, and serves until it is ended
"""

import argparse
import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import uvloop
from aiohttp import web

from loadtest.stub.pace import FAST, Draws

OVERHEAD_S: Final = 0.02
"""Of our own, in a question; all of it where a cache answers, and of what is only stored."""
_PROBLEM: Final = {"type": "urn:trellis:problem:internal", "title": "Internal error", "status": 500}


@dataclass
class StandIn:
    """Answers as the service does. `slower`: times that every wait is longer. `errors`: share that fails, 0 to 1.

    A question that was asked before is answered as from a cache. The same seed gives the same waits and failures, in
    the order of the requests.
    """

    slower: float = 1.0
    errors: float = 0.0
    seed: int = 0
    _asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._draws = Draws(FAST, self.seed)
        self._chance = random.Random(self.seed)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/bots/{bot}/chat", self._ask)
        for path in ("/v1/leads", "/v1/leads/batch", "/v1/bots/{bot}/documents"):
            app.router.add_post(path, self._store)
        return app

    async def _store(self, _request: web.Request) -> web.Response:
        await asyncio.sleep(OVERHEAD_S * self.slower)
        return _problem() if self._fails() else web.json_response({"id": "stored"}, status=201)

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        known = body["message"] in self._asked
        self._asked.add(body["message"])
        waits = [0.0] if known else self._draws.waits(self._draws.tokens())
        if self._fails():
            return _problem()
        first, rest = (OVERHEAD_S + waits[0]) * self.slower, sum(waits[1:]) * self.slower
        answer = {"cache": "exact" if known else "none", "model_ms": sum(waits) * 1000, "refused": False}
        await asyncio.sleep(first)
        if body.get("stream"):
            return await _stream(request, rest, answer)
        await asyncio.sleep(rest)
        return web.json_response(answer)

    def _fails(self) -> bool:
        return self._chance.random() < self.errors


async def _stream(request: web.Request, rest_s: float, answer: Mapping[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(_event(1, "start", {}) + _event(2, "token", {"text": "Yes."}))
    await asyncio.sleep(rest_s)
    await response.write(_event(3, "done", answer))
    await response.write_eof()
    return response


def _event(number: int, name: str, data: Mapping[str, Any]) -> bytes:
    return b"id: stand-in.%d\nevent: %s\ndata: %s\n\n" % (number, name.encode(), orjson.dumps(data))


def _problem() -> web.Response:
    return web.json_response(_PROBLEM, status=500, content_type="application/problem+json")


async def _serve(stand_in: StandIn, port: int) -> None:
    runner = web.AppRunner(stand_in.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser("python -m loadtest.stub.stand_in", description="A service that is none.")
    parser.add_argument("port", type=int)
    parser.add_argument("--slower", type=float, default=1.0)
    parser.add_argument("--errors", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    uvloop.run(_serve(StandIn(given.slower, given.errors, given.seed), given.port))


if __name__ == "__main__":
    main()
