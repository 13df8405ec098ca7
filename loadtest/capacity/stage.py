"""One API process over the servers of a phase, with many tenants and large bots, to ask one thing at a time of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from app.container import Container, Parts, open_container
from app.governance.keys import create_key, create_tenant
from app.packs.chat.sample_data import SAMPLE
from app.principal import Role, Tier
from app.settings import load_settings
from infra.phases import PHASES, PhaseName
from loadtest.house import settings as told
from loadtest.house.backends import Stores, entered, stores
from loadtest.house.processes import families, listeners, printing
from loadtest.stub.pace import ModelPace
from loadtest.stub.paced import command
from tests.chaos.house import environment, furnish
from tests.perf.target import cpu_s
from tests.support.server import ApiProcess, free_port

Item = TypeVar("Item")
Say = Callable[[str], None]

PHASE: Final = PhaseName.SMALL
BOT: Final = "handbook"
AT_ONCE: Final = ModelPace("at once", 0.005, 0.0, 4000.0, 0.0, 24)
"""How long a model takes is in no figure here; it must only not be waited for."""
PRICES: Final[Mapping[str, float]] = MappingProxyType(
    {"model_input_usd_per_million": 2.5, "model_output_usd_per_million": 10.0}
)
PAGE: Final = SAMPLE / "knowledge" / "holidays.md"
"""What answers the question: without evidence no model would be asked."""
PARTS: Final = ("api", "postgres", "vectors")
_AT_A_TIME: Final = 4


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs. `keys`: of tenants, in their order; the first has the large bots. `roots`: processes by part."""

    address: str
    keys: tuple[str, ...]
    roots: Mapping[str, tuple[int, ...]]

    def cpu_s(self) -> Mapping[str, float]:
        """Seconds of CPU of each part so far."""
        return {part: sum(map(cpu_s, families(roots))) for part, roots in self.roots.items()}

    def memory_mib(self) -> float:
        """Of the API process."""
        lines = Path(f"/proc/{self.roots['api'][0]}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


def large_bot(documents: int) -> str:
    return f"with-{documents}"


@asynccontextmanager
async def stage(folder: Path, tenants: int, with_page: int, documents: Sequence[int], say: Say) -> AsyncIterator[Stage]:
    """All of it, ended with the block.

    Args:
        folder: an empty one, for data and logs.
        with_page: how many of the tenants have a page for their bot, and can be asked.
        documents: of the first tenant's further bots, one for each number.

    Raises HouseError where PostgreSQL is not installed.
    """
    async with AsyncExitStack() as stack:
        found = await stores(stack, folder, PHASES[PHASE], say)
        model = await entered(stack, printing(command(AT_ONCE), folder / "model.log"))
        given = _settings(found, model)
        say(f"{tenants:,} tenants")
        home = folder / "api"
        await furnish(home, given | found.migrating, tenants=())
        async with open_container(load_settings({}, home=home, log_level="ERROR", **given), Parts.COMMAND) as container:
            names = [f"tenant-{number + 1}" for number in range(tenants)]
            keys = [await _tenant(container, name) for name in names]
            await _fill(container, names[:with_page], documents, say)
        server = stack.enter_context(ApiProcess(home, free_port(), **environment(given | {"log_level": "WARNING"})))
        await asyncio.to_thread(server.wait_ready)
        yield Stage(server.address, tuple(keys), {"api": (server.process.pid,)} | _roots(found))


def _settings(found: Stores, model: str) -> dict[str, Any]:
    phase = PHASES[PHASE]
    return {
        **told.pod(phase),
        **told.models(phase, model),
        **told.NO_BUDGET,
        **PRICES,
        **found.settings,
        "trace_sample": 0,
    }


def _roots(found: Stores) -> dict[str, tuple[int, ...]]:
    pids = listeners([port for part in PARTS for port in found.ports.get(part, ())])
    return {part: tuple(pids[port] for port in found.ports[part]) for part in PARTS if part in found.ports}


async def _tenant(container: Container, name: str) -> str:
    """A key of it. Its bots have no tools, so that it needs no rights to any."""
    async with container.db.operator_transaction() as session:
        await create_tenant(session, name, name, container.clock())
        return (await create_key(session, name, Role.ADMIN, Tier.PRO, "growth", container.clock())).secret


async def _fill(container: Container, tenants: Sequence[str], documents: Sequence[int], say: Say) -> None:
    page = PAGE.read_text("utf-8")
    say(f"a page for each of {len(tenants):,} tenants")
    await _each(tenants, lambda tenant: container.kit.ingestor.put_page(tenant, BOT, page))
    for number in documents:
        say(f"a bot with {number:,} documents")
        await container.kit.ingestor.put_page(tenants[0], large_bot(number), page)
        notes = _Notes(container, tenants[0], large_bot(number))
        await _each(range(1, number), notes.put)


@dataclass(frozen=True, slots=True)
class _Notes:
    """Short documents that say nothing of what is asked."""

    container: Container
    tenant: str
    bot: str

    async def put(self, number: int) -> object:
        text = f"Machine {number} of hall {number % 40} has its valve by door {number % 7}, and its hatch beside it."
        put = self.container.kit.ingestor.put
        return await put(self.tenant, self.bot, f"note-{number}", f"Note {number}", text, [])


async def _each(items: Iterable[Item], do: Callable[[Item], Awaitable[object]]) -> None:
    waiting = iter(items)

    async def one_after_the_other() -> None:
        for item in waiting:
            await do(item)

    await asyncio.gather(*(one_after_the_other() for _ in range(_AT_A_TIME)))
