"""The part that every fake vendor shares: a server, what it saw, and faults on demand."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

MAX_BODY = 32 << 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """The vendor's refusal: a status and its error body."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, body)
        self.status, self.body, self.headers = status, body, dict(headers or {})


@dataclass(frozen=True)
class Seen:
    """One request. `peer`: the caller's port, the same for all that came over one connection."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    peer: int

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Fault:
    """Given once, to the next request whose path holds `where`: a refusal, or a lost answer (None)."""

    where: str
    refusal: Refused | None
    carried_out: bool = True


@dataclass
class FakeVendor(ABC):
    """`async with Fake(...) as fake:` listens on `fake.url`."""

    seen: list[Seen] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    url: str = ""

    @abstractmethod
    def routes(self) -> Iterable[web.RouteDef]: ...

    def refuse_next(self, status: int, body: Any, headers: Mapping[str, str] | None = None, where: str = "") -> None:
        """The next request is not carried out and answered so."""
        self.faults.append(Fault(where, Refused(status, body, headers), carried_out=False))

    def lose_next_answer(self, where: str = "") -> None:
        """The next request is carried out and its connection closed without an answer."""
        self.faults.append(Fault(where, None))

    def count(self, method: str, part: str) -> int:
        """How many requests of the method had `part` in their path."""
        return sum(seen.method == method and part in seen.path for seen in self.seen)

    async def __aenter__(self) -> Self:
        await self._start(0)
        self.url = str(self._server.make_url("")).rstrip("/")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Nothing listens any more, and every connection is closed."""
        await self._server.close()

    async def start_again(self) -> None:
        """At the same address."""
        await self._start(URL(self.url).port or 0)

    async def _start(self, port: int) -> None:
        app = web.Application(middlewares=[self._record], client_max_size=MAX_BODY)
        app.add_routes(self.routes())
        self._server = TestServer(app, port=port)
        await self._server.start_server()

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        assert request.transport is not None
        peer = request.transport.get_extra_info("peername")[1]
        body = await request.read()
        self.seen.append(Seen(request.method, request.path, request.query, request.headers, body, peer))
        fault = next((fault for fault in self.faults if fault.where in request.path), None)
        if fault is not None:
            self.faults.remove(fault)
        if fault is not None and fault.refusal is not None:
            return answer(fault.refusal.body, fault.refusal.status, fault.refusal.headers)
        try:
            response = await handler(request)
        except Refused as refused:
            response = answer(refused.body, refused.status, refused.headers)
        if fault is not None:
            request.transport.close()
        return await self.deliver(request, response)

    async def deliver(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """How an answer goes out; a fake may take its time."""
        return response


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    if isinstance(body, bytes):
        return web.Response(status=status, headers=headers, body=body)
    if body is None:
        return web.Response(status=status, headers=headers)
    return web.Response(status=status, headers=headers, body=orjson.dumps(body), content_type="application/json")


def is_json(request: web.Request) -> bool:
    return request.content_type == "application/json"


def bearer(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""
