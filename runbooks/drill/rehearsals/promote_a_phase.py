"""A PoC that is written all the time moves to PostgreSQL, Redis and a vector server, and back, and loses nothing.

PostgreSQL with its standby, PgBouncer and the Redis Cluster are real; the vector server is the tests' own, with
Qdrant's wire. In the place of the cluster, the rehearsal starts the service of a side as soon as the side takes writes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from app.settings import load_settings
from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage, Standing
from tests.chaos.house import furnish
from tests.perf.promotion_demo import NO_LIMIT, Small, leads_of, open_gate, servers, vector_server
from tests.perf.promotion_writer import Writer, compared
from tests.support.server import Server, free_port

PER_SECOND: Final = 0.5
PAUSE_S: Final = 1.0
"""Before a lead that was refused is sent again: those that wait for a side must not keep it from starting."""
MORE: Final = 5
"""Leads that each side takes before the next step."""


@dataclass(kw_only=True)
class Promotion(Standing):
    """`old`, `new`: the sides' services; `lines`: settings of the new side, in the file that the page names."""

    home: Path
    small: Small
    lines: Mapping[str, str]
    ports: tuple[int, int]
    writer: Writer
    stack: AsyncExitStack
    old: Server
    starting: list[asyncio.Task[None]] = field(default_factory=list)

    async def break_it(self) -> None:
        """The new side is ready to take the rows: its settings are there."""
        await self.writer.wait_for(MORE)
        await asyncio.to_thread(_write, self.small.file, self.lines)
        self.starting.append(asyncio.create_task(self._start_new()))

    async def mend(self) -> None:
        """The new side has taken leads; the old service, which remembers what was before, is ended."""
        await self.writer.wait_for(MORE)
        if self.old.process.poll() is None:
            await asyncio.to_thread(self.old.terminate)
        await self._check(self.small.leads)
        self.starting.append(asyncio.create_task(self._start_old()))

    async def lost(self) -> str:
        await self.writer.wait_for(MORE)
        self.writer.stop()
        await asyncio.gather(*self.starting)
        await self._check(partial(leads_of, self.home))
        return f"nothing of {len(self.writer.acknowledged)} leads"

    async def _check(self, leads: Callable[[], Sequence[tuple[str, str]]]) -> None:
        """What was acknowledged before one looks is there, and nothing twice."""
        acknowledged = dict(self.writer.acknowledged)
        found = await asyncio.to_thread(leads)
        missing, doubled = compared(acknowledged, found)
        assert not missing, f"{missing} acknowledged leads are not there"
        assert not doubled, f"{doubled} leads are there more than once"

    async def _start_new(self) -> None:
        await open_gate(self.small.settings)
        await self._serve(self.home.parent / "small", self.ports[1], self.lines)

    async def _start_old(self) -> None:
        await open_gate(load_settings({}, home=self.home))
        await self._serve(self.home, self.ports[0], {})

    async def _serve(self, home: Path, port: int, lines: Mapping[str, str]) -> None:
        server = self.stack.enter_context(Server(home, port, **(NO_LIMIT | dict(lines))))
        await asyncio.to_thread(server.wait_ready)


@asynccontextmanager
async def promotion(folder: Path) -> AsyncIterator[Promotion]:
    """A PoC with documents and a client that sends leads; the servers of the small phase, empty."""
    home = folder / "poc"
    house = await furnish(home, {}, bots=("handbook",))
    async with AsyncExitStack() as stack:
        vectors = await stack.enter_async_context(vector_server())
        small = await asyncio.to_thread(stack.enter_context, servers(folder, vectors))
        ports = free_port(), free_port()
        old = stack.enter_context(Server(home, ports[0], **NO_LIMIT))
        await asyncio.to_thread(old.wait_ready)
        sides = [f"http://127.0.0.1:{port}" for port in ports]
        writer = Writer(sides, house.key, PER_SECOND, PAUSE_S)
        writing = asyncio.create_task(writer.run())
        made = Promotion(
            environment={"TRELLIS_HOME": str(home), "TARGET": str(small.file), "OLD": sides[0], "NEW": sides[1]},
            home=home,
            small=small,
            lines={**small.lines, "TRELLIS_SESSION_SECRET": (home / "console.secret").read_text().strip()},
            ports=ports,
            writer=writer,
            stack=stack,
            old=old,
        )
        try:
            yield made
        finally:
            for task in (writing, *made.starting):
                task.cancel()
            await asyncio.gather(writing, *made.starting, return_exceptions=True)


def _write(file: Path, lines: Mapping[str, str]) -> None:
    file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))


def stage(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return promotion(folder)


REHEARSAL = Rehearsal(
    page="procedures/promote-a-phase",
    alert=None,
    needs=("postgres", "pgbouncer", "redis"),
    stage=stage,
    rollback=Rollback.AFTER,
    wait_s=600,
)
