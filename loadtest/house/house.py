"""Starts the house: its stores, the model's stub, a phase's API and worker, Prometheus; furnishes it; ends them all."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from alerts.model import Site
from infra.phases import Phase
from loadtest.house import furniture as rooms
from loadtest.house import settings as told
from loadtest.house.backends import Stores, entered, stores
from loadtest.house.decisions import File, Server
from loadtest.house.errors import HouseError
from loadtest.house.furniture import Furniture
from loadtest.house.processes import listeners, port_of, printing
from loadtest.stub.pace import ModelPace, room
from loadtest.stub.paced import command
from provisioning.src.prometheus import SCRAPE_S
from tests.chaos.house import environment, furnish
from tests.chaos.load import Client, session
from tests.support import server
from tests.support.components import COMPONENTS
from tests.support.monitoring import listening, running_alertmanager, running_prometheus
from tests.support.server import ApiProcess, WorkerProcess, free_port

__all__ = ["House", "HouseError", "house"]


@dataclass(frozen=True, slots=True)
class House:
    """What runs. Addresses have no slash at the end.

    `addresses`: of the API's replicas; `served`: of each of the app's processes, by name. `keys`: an admin's key of
    tier pro for each tenant, 6,000 requests a minute each: requests are spread over them in turn. `bot` is asked,
    `filled` is given documents. `known`: questions that each tenant has had answered, asked with an empty `history`;
    `asked`: what the bot has documents for, to be made new by a further sentence. `prometheus` None: not installed.
    `database`: where decisions are read.
    `parts`: by name, the first process of each of its servers; empty where the system has no /proc.
    """

    phase: Phase
    folder: Path
    addresses: tuple[str, ...]
    served: Mapping[str, str]
    keys: tuple[str, ...]
    bot: str
    filled: str
    known: tuple[str, ...]
    asked: tuple[str, ...]
    model: str
    prometheus: str | None
    backends: Mapping[str, str]
    notes: tuple[str, ...]
    parts: Mapping[str, tuple[int, ...]]
    database: Server | File
    started_s: float

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def key(self) -> str:
        return self.keys[0]

    async def metrics(self) -> Mapping[str, str]:
        """The text of `/metrics` of each of the app's processes, by its name. Raises HouseError."""
        return {name: (await _get(f"{address}/metrics")).decode() for name, address in self.served.items()}

    async def model_count(self) -> Mapping[str, Any]:
        """The stub's `/count`: calls, answered, kinds, limited, left, cpu_s. Raises HouseError."""
        found: Mapping[str, Any] = orjson.loads(await _get(f"{self.model.removesuffix('/v1')}/count"))
        return found


_PATIENCE: Final = aiohttp.ClientTimeout(total=30)
_MARK: Final = ".house"
_HERE: Final = (
    "Everything shares this machine's cores, load generator included, and talks over loopback without TLS.",
    "Memory of a process is not limited to its pod's; stores have their packages' defaults, not a cloud's.",
)


async def _get(url: str) -> bytes:
    try:
        async with aiohttp.ClientSession(timeout=_PATIENCE) as web, web.get(url) as answer:
            answer.raise_for_status()
            return await answer.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise HouseError(f"A process of the house does not answer at {url}: {error!r}.") from error


@asynccontextmanager
async def house(
    folder: Path,
    phase: Phase,
    *,
    model: ModelPace,
    replicas: int = 1,
    furniture: Furniture | None = None,
    faults: Mapping[str, float] | None = None,
    seed: int = 0,
    scrape_s: float = SCRAPE_S,
    say: Callable[[str], None] = print,
) -> AsyncIterator[House]:
    """One replica of the phase, ready and furnished; everything ends with the block, also where it is cancelled.

    Args:
        folder: for data and logs; what an earlier house left there is thrown away.
        model: how fast the model's stub is.
        replicas: processes of the API over the same stores.
        furniture: `Furniture()` where none is given.
        faults: shares of model calls that go wrong, by kind (`loadtest.stub.server.KINDS`), furnishing included.
        scrape_s: how often Prometheus looks and counts its rules; as in production, for it costs the app its part.
        say: is told each step in a line.

    Raises:
        HouseError: in a sentence: a program is missing, a process does not start, the app refuses the furniture.
    """
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        try:
            builder = _Builder(stack, folder, phase, say)
            found = await builder.build(model, replicas, furniture or Furniture(), faults or {}, seed, scrape_s)
        except HouseError:
            raise
        except (AssertionError, RuntimeError, OSError) as error:
            raise HouseError(f"The house of phase '{phase.name}' does not start: {error}") from error
        say(f"the house of phase '{phase.name}' is ready after {time.monotonic() - began:.0f} s")
        yield found


@dataclass
class _Builder:
    """The steps of a start, in their order."""

    stack: AsyncExitStack
    folder: Path
    phase: Phase
    say: Callable[[str], None]

    async def build(
        self,
        model: ModelPace,
        replicas: int,
        furniture: Furniture,
        faults: Mapping[str, float],
        seed: int,
        scrape_s: float,
    ) -> House:
        began = time.monotonic()
        _clear(self.folder)
        found = await stores(self.stack, self.folder, self.phase, self.say)
        found.notes += [room(self.phase, model), *_HERE]
        url = await self._model(command(model, seed=seed, faults=faults), found)
        given = await self._told(url, found)
        self.say(f"tables, and {furniture.tenants} tenants")
        names = [f"tenant-{number + 1}" for number in range(furniture.tenants)]
        made = await furnish(self._home("api"), {**given, **found.migrating}, tenants=names)
        served = await self._app(given, replicas, found)
        keys = tuple(made.keys.values())
        addresses = tuple(address for name, address in served.items() if name != "worker")
        await self._furnish(addresses[0], keys, furniture)
        prometheus = await self._prometheus(served, scrape_s, found)
        return House(
            phase=self.phase,
            folder=self.folder,
            addresses=addresses,
            served=served,
            keys=keys,
            bot=rooms.BOT,
            filled=rooms.FILLED,
            known=rooms.QUESTIONS[: furniture.known],
            asked=rooms.QUESTIONS,
            model=url,
            prometheus=prometheus,
            backends=found.named,
            notes=tuple(found.notes),
            parts=_parts(found),
            database=Server(found.administrator) if found.administrator else File(self._home("api") / "trellis.db"),
            started_s=time.monotonic() - began,
        )

    async def _model(self, arguments: Sequence[str], found: Stores) -> str:
        self.say("the model's stub")
        return await self._program("model stub", arguments, found)

    async def _told(self, model: str, found: Stores) -> Mapping[str, Any]:
        """The app's settings by name."""
        given = {**told.pod(self.phase), **told.models(self.phase, model), **told.NO_BUDGET, **found.settings}
        if "trace_sample" in given:
            given["otlp_url"] = await self._program("collector stub", ["-m", "loadtest.stub.collector"], found)
            found.notes.append("Traces go to a stub that forgets them: the collector's own work is not measured.")
        return given

    async def _program(self, part: str, arguments: Sequence[str], found: Stores) -> str:
        """The address that it prints."""
        url = await entered(self.stack, printing(arguments, self.folder / f"{part}.log"))
        found.ports[part] = (port_of(url),)
        return url

    async def _app(self, given: Mapping[str, Any], replicas: int, found: Stores) -> Mapping[str, str]:
        """Addresses by name: `api`, `api 2`, `worker`; one process of both where the phase has no servers."""
        kinds: list[tuple[str, type[server.Server]]] = [("api", server.Server)]
        if self.phase.server is not None:
            api = [(f"api {number + 1}" if number else "api", ApiProcess) for number in range(replicas)]
            kinds = [*api, ("worker", WorkerProcess)]
        self.say("the app: " + ", ".join(name for name, _ in kinds))
        variables, running = environment(given), []
        for name, kind in kinds:
            running.append(self.stack.enter_context(kind(self._home(name), free_port(), **variables)))
        for each in running:
            await asyncio.to_thread(each.wait_ready)
        found.ports |= {name: (each.port,) for (name, _), each in zip(kinds, running, strict=True)}
        return {name: each.address for (name, _), each in zip(kinds, running, strict=True)}

    def _home(self, name: str) -> Path:
        home = self.folder / name.replace(" ", "-")
        home.mkdir(exist_ok=True)
        return home

    async def _furnish(self, address: str, keys: Sequence[str], furniture: Furniture) -> None:
        self.say("documents, and questions that are known")
        async with session() as web:
            await rooms.furnish([Client(web, address, key) for key in keys], furniture)

    async def _prometheus(self, served: Mapping[str, str], scrape_s: float, found: Stores) -> str | None:
        absent = [name for name in ("prometheus", "alertmanager") if COMPONENTS[name].find() is None]
        if absent:
            found.notes.append(
                f"{' and '.join(absent)} {'are' if len(absent) > 1 else 'is'} not installed (`make deps`): there are "
                "no panels of this run, and what scraping and rules cost the app is not measured."
            )
            return None
        self.say("Prometheus with the phase's rules")
        webhook = await self.stack.enter_async_context(listening())
        alertmanager = await entered(self.stack, running_alertmanager(self.folder / "alertmanager", webhook.url))
        ports = {"prometheus": free_port(), "alertmanager": alertmanager}
        several = {
            f"trellis-{kind}": [port_of(address) for name, address in served.items() if name.startswith(kind)]
            for kind in ("api", "worker")
        }
        jobs = {job: found_ports for job, found_ports in several.items() if found_ports}
        port = await entered(
            self.stack, running_prometheus(self.folder / "prometheus", Site(self.phase), ports, scrape_s, jobs)
        )
        found.ports |= {"prometheus": (port,), "alertmanager": (alertmanager,)}
        return f"http://127.0.0.1:{port}"


def _clear(folder: Path) -> None:
    """Raises HouseError where something lies there that no house left."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise HouseError(f"The folder {folder} is not empty, and holds no house: name another one.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()


def _parts(found: Stores) -> Mapping[str, tuple[int, ...]]:
    pids = listeners(port for ports in found.ports.values() for port in ports)
    there = {part: tuple(pids[port] for port in ports if port in pids) for part, ports in found.ports.items()}
    return {part: roots for part, roots in there.items() if roots}
