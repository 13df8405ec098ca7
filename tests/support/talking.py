"""A server that streams what a test says, on a loop of its own; and a talk with it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from anyio.from_thread import start_blocking_portal
from rich.console import Console

from app.administration.rest import Rest
from app.settings import load_settings
from app.terminal.client import ChatClient
from app.terminal.talk import Talk

STREAM = "str_1"
RESUME = f"/v1/bots/docs/chat/streams/{STREAM}"


def answer(text: str, **fields: Any) -> dict[str, Any]:
    """An answer's document."""
    return {
        "text": text,
        "citations": [],
        "tools": [],
        "cache": "none",
        "cost_usd": 0.00012,
        "saved_usd": 0.0,
        "input_tokens": 100,
        "output_tokens": 20,
        "model": "gpt-4o-mini",
        "duration_ms": 1234.5,
    } | fields


def told(text: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """A stream that says a text word by word."""
    words = [("token", {"text": f"{word} "}) for word in text.split()]
    return [("start", {"stream_id": STREAM, "resume": RESUME}), *words, ("done", answer(f"{text} ", **fields))]


@dataclass
class Script:
    """What the server does: `events` as a stream; the connection breaks behind each number in `cuts`; after
    `hang_after` events it says nothing more. `refuse` answers every question with a status and a problem."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=lambda: told("Fourteen weeks, paid in full."))
    cuts: list[int] = field(default_factory=list)
    hang_after: int | None = None
    refuse: tuple[int, str] | None = None
    questions: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    tokens: int = 0
    forgotten: int = 0
    gone: int = 0


class _Server:
    def __init__(self, script: Script) -> None:
        self._script = script

    async def token(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer trl_test"
        self._script.tokens += 1
        return _json({"token": f"token-{self._script.tokens}", "user_id": request.match_info["user"]}, 201)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        if self._script.refuse:
            status, detail = self._script.refuse
            return _json({"detail": detail}, status)
        self._script.questions.append((await request.json())["message"])
        return await self._send(request, 0)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        last = request.headers["Last-Event-ID"]
        self._script.resumed.append(last)
        return await self._send(request, int(last.rpartition(".")[2]))

    async def forget(self, request: web.Request) -> web.Response:
        self._check(request)
        self._script.forgotten += 1
        return web.Response(status=204)

    def _check(self, request: web.Request) -> None:
        assert request.headers["Authorization"] == f"Bearer token-{self._script.tokens}"

    async def _send(self, request: web.Request, after: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n: \n\n")
        try:
            for number, (name, data) in enumerate(self._script.events[after:], after + 1):
                frame = b"id: %s.%d\nevent: %s\ndata: %s\n\n" % (
                    STREAM.encode(),
                    number,
                    name.encode(),
                    orjson.dumps(data),
                )
                await response.write(frame)
                if number in self._script.cuts:
                    self._script.cuts.remove(number)
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if number == self._script.hang_after:
                    await asyncio.sleep(60)
        except (asyncio.CancelledError, ConnectionError):
            self._script.gone += 1
            raise
        return response


def _json(document: Any, status: int) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=status, content_type="application/json")


@dataclass
class Talking:
    """A talk with the scripted server, and what its screen shows."""

    talk: Talk
    client: ChatClient
    run: Callable[..., Any]
    screen: StringIO

    @property
    def shown(self) -> str:
        return self.screen.getvalue()


@contextmanager
def talking(script: Script, home: Path) -> Iterator[Talking]:
    """The server runs in a thread, the talk in this one: Ctrl-C reaches the talk."""
    with start_blocking_portal() as portal:
        runner, port = portal.call(_serve, script)
        screen = StringIO()
        try:
            with asyncio.Runner() as own:
                address = f"http://127.0.0.1:{port}"
                opened = Rest.open(load_settings({}, home=home), address, "trl_test")
                rest = own.run(opened.__aenter__())
                held = ChatClient.open(rest, address, "maria", "docs")
                client = own.run(held.__aenter__())
                console = Console(file=screen, width=200)
                try:
                    yield Talking(Talk(client, console, own), client, own.run, screen)
                finally:
                    own.run(held.__aexit__(None, None, None))
                    own.run(opened.__aexit__(None, None, None))
        finally:
            portal.call(runner.cleanup)


async def _serve(script: Script) -> tuple[web.AppRunner, int]:
    server, app = _Server(script), web.Application()
    app.router.add_post("/v1/users/{user}/token", server.token)
    app.router.add_post("/v1/bots/docs/chat", server.chat)
    app.router.add_get(RESUME, server.resume)
    app.router.add_delete("/v1/bots/docs/memory", server.forget)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]
