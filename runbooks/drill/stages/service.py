"""A stage's one process of the app, and what stands for `kubectl` where there is no cluster to ask for it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from tests.support.on_loopback import on_loopback
from tests.support.server import Server, free_port


@dataclass
class Service:
    """The process, its settings (as variables), and those that it had before (`kubectl rollout undo`).

    Args:
        starts: a new process on the same port, over the same data.
    """

    server: Server
    settings: Mapping[str, str]
    starts: Callable[[Mapping[str, str]], Server]
    before: list[Mapping[str, str]] = field(default_factory=list)

    async def set(self, changes: Mapping[str, str | None]) -> None:
        """Other settings (None: without it), and a process that has them; returns when it serves."""
        changed = {**self.settings, **changes}
        self.before.append(self.settings)
        await self._restart({name: value for name, value in changed.items() if value is not None})

    async def undo(self) -> None:
        """As before the last `set`. Raises ValueError where nothing was set."""
        if not self.before:
            raise ValueError("nothing was rolled out that could be undone")
        await self._restart(self.before.pop())

    async def restart(self) -> None:
        await self._restart(self.settings)

    async def _restart(self, settings: Mapping[str, str]) -> None:
        await asyncio.to_thread(self.server.terminate)
        # At once: an interruption must find it, to end it.
        self.server = self.starts(settings)
        self.settings = settings
        await asyncio.to_thread(self.server.wait_ready)

    def end(self) -> None:
        self.server.__exit__(None, None, None)


@asynccontextmanager
async def controlled(service: Service) -> AsyncIterator[Sequence[str]]:
    """What stands for `kubectl` before the service, as a command: `runbooks.drill.machine` with the address to ask."""
    app = web.Application()
    handlers = _Handlers(service)
    app.add_routes(
        [
            web.get("/settings", handlers.settings),
            web.get("/log", handlers.log),
            web.post("/set", handlers.set),
            web.post("/undo", handlers.undo),
            web.post("/restart", handlers.restart),
        ]
    )
    try:
        async with on_loopback(app) as address:
            yield (sys.executable, "-m", "runbooks.drill.machine", address)
    finally:
        service.end()


@asynccontextmanager
async def served(home: Path, chosen: Mapping[str, str]) -> AsyncIterator[tuple[Service, Sequence[str]]]:
    """A process over a folder's data, on a free port, once it is ready; and what stands for `kubectl` before it."""
    port = free_port()
    settings = {"TRELLIS_LOG_LEVEL": "WARNING", **chosen, "TRELLIS_HOME": str(home), "TRELLIS_PORT": str(port)}

    def starts(given: Mapping[str, str]) -> Server:
        return Server(home, port, **given)

    service = Service(starts(settings), settings, starts)
    async with controlled(service) as kubectl:
        await asyncio.to_thread(service.server.wait_ready)
        yield service, kubectl


class _Handlers:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._one = asyncio.Lock()

    async def settings(self, _request: web.Request) -> web.Response:
        return web.json_response(dict(self._service.settings))

    async def log(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._service.server.home / "server.log")

    async def set(self, request: web.Request) -> web.Response:
        return await self._then(self._service.set(await request.json()))

    async def undo(self, _request: web.Request) -> web.Response:
        return await self._then(self._service.undo())

    async def restart(self, _request: web.Request) -> web.Response:
        return await self._then(self._service.restart())

    async def _then(self, work: Coroutine[None, None, None]) -> web.Response:
        async with self._one:
            try:
                await work
            except (ValueError, AssertionError) as error:
                return web.Response(status=409, text=str(error))
        return web.Response()
