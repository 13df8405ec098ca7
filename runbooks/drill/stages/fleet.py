"""Several processes of the app, as deployments have pods: scaled, restarted one after the other, and asked in turn."""

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from tests.support.on_loopback import on_loopback
from tests.support.server import Server, free_port

_PIECE: Final = 65_536
Settings = Callable[[], Mapping[str, str]]
"""Read anew for each process that starts: what a pod finds in its Secrets then, as variables (`TRELLIS_...`)."""


@dataclass
class Deployment:
    """`ports`: one for each process there may be, so that Prometheus knows them all. `going`: gets no new requests."""

    kind: type[Server]
    home: Path
    settings: Settings
    ports: Sequence[int]
    replicas: int
    running: dict[int, Server] = field(default_factory=dict)
    going: set[int] = field(default_factory=set)

    @property
    def serving(self) -> list[Server]:
        return [server for port, server in sorted(self.running.items()) if port not in self.going]

    def start(self, port: int) -> Server:
        """Returns when it is ready. Raises AssertionError with its log where it is not."""
        home = self.home / str(port)
        home.mkdir(parents=True, exist_ok=True)
        server = self.kind(home, port, **self.settings())
        # Known before it is ready: it is ended also where it never is.
        self.going.add(port)
        self.running[port] = server
        server.wait_ready()
        self.going.discard(port)
        return server

    def log(self) -> str:
        """What its processes wrote, also those that have ended."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.home.glob("*/server.log")))

    def free(self) -> Iterator[int]:
        return (port for port in self.ports if port not in self.running)


class Fleet:
    """Deployments by name. What changes them is done one after the other."""

    def __init__(self, deployments: Mapping[str, Deployment]) -> None:
        self.deployments = deployments
        self._usual = {name: one.replicas for name, one in deployments.items()}
        self._one = asyncio.Lock()
        self._turn = itertools.count()

    def next(self, name: str) -> Server:
        """The process whose turn it is: whom a load balancer would ask."""
        serving = self.deployments[name].serving
        return serving[next(self._turn) % len(serving)]

    def address(self, name: str) -> str:
        return self.next(name).address

    async def scale(self, name: str, replicas: int | None) -> None:
        """As many processes, ready; None: as many as there were at first. Raises ValueError where there is no room."""
        one = self.deployments[name]
        wanted = self._usual[name] if replicas is None else replicas
        if wanted > len(one.ports):
            raise ValueError(f"this stage has room for {len(one.ports)} processes of {name}, not for {wanted}")
        async with self._one:
            one.replicas = wanted
            more = list(one.free())[: max(0, wanted - len(one.running))]
            await asyncio.gather(*(asyncio.to_thread(one.start, port) for port in more))
            for port in list(one.running)[wanted:]:
                await self._end(one, port)

    async def restart(self, name: str) -> None:
        """One after the other: a new process serves before an old one goes, where there is room for one more."""
        one = self.deployments[name]
        async with self._one:
            for port in list(one.running):
                spare = next(one.free(), None)
                if spare is not None:
                    await asyncio.to_thread(one.start, spare)
                await self._end(one, port)
                if spare is None:
                    await asyncio.to_thread(one.start, port)

    async def kill(self, name: str) -> None:
        """All at once, and nobody starts them anew: their machines are gone."""
        one = self.deployments[name]
        for port, server in list(one.running.items()):
            server.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(server.process.wait)
            one.running.pop(port)

    def shown(self, name: str, template: str) -> str:
        """A jsonpath of kubectl, as far as pages use one of deployments."""
        one = self.deployments[name]
        counts = {"{.spec.replicas}": one.replicas, "{.status.readyReplicas}": len(one.serving)}
        for path, count in counts.items():
            template = template.replace(path, str(count))
        return template

    def end(self) -> None:
        for one in self.deployments.values():
            for server in one.running.values():
                server.__exit__(None, None, None)

    async def _end(self, one: Deployment, port: int) -> None:
        """No new requests, then SIGTERM: what it is answering it answers."""
        one.going.add(port)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(one.running[port].terminate)
        one.running.pop(port).__exit__(None, None, None)
        one.going.discard(port)


def ports(count: int) -> list[int]:
    """So many free ones."""
    found = set[int]()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


@asynccontextmanager
async def running_fleet(deployments: Mapping[str, Deployment]) -> AsyncIterator[tuple[Fleet, Sequence[str]]]:
    """All of them up, and the command that stands for `kubectl` before them (`runbooks.drill.fleet_kubectl`)."""
    fleet = Fleet(deployments)
    with ExitStack() as stack:
        stack.callback(fleet.end)
        await asyncio.gather(*(fleet.scale(name, None) for name in deployments))
        async with on_loopback(_app(fleet)) as address:
            yield fleet, (sys.executable, "-m", "runbooks.drill.fleet_kubectl", address)


@asynccontextmanager
async def fronted(fleet: Fleet, name: str) -> AsyncIterator[str]:
    """One address for all processes of a deployment: each connection leads to the next of them."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_them = await asyncio.open_connection("127.0.0.1", fleet.next(name).port)
        await asyncio.gather(_pass_on(reader, to_them), _pass_on(theirs, writer))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()


def _app(fleet: Fleet) -> web.Application:
    async def scale(request: web.Request) -> web.Response:
        asked = await request.json()
        try:
            await fleet.scale(request.match_info["name"], asked["replicas"])
        except (ValueError, AssertionError) as error:
            return web.Response(status=409, text=str(error))
        return web.Response()

    async def restart(request: web.Request) -> web.Response:
        try:
            await fleet.restart(request.match_info["name"])
        except AssertionError as error:
            return web.Response(status=409, text=str(error))
        return web.Response()

    async def shown(request: web.Request) -> web.Response:
        return web.Response(text=fleet.shown(request.match_info["name"], (await request.json())["template"]))

    async def settings(request: web.Request) -> web.Response:
        one = fleet.deployments[request.match_info["name"]]
        return web.json_response({**one.settings(), "TRELLIS_HOME": str(one.home / "command")})

    async def log(request: web.Request) -> web.Response:
        return web.Response(text=fleet.deployments[request.match_info["name"]].log())

    app = web.Application()
    names = "|".join(fleet.deployments)
    for what, handler in (
        ("scale", scale),
        ("restart", restart),
        ("shown", shown),
        ("settings", settings),
        ("log", log),
    ):
        app.router.add_post(f"/{{name:{names}}}/{what}", handler)
    return app
