"""One run of the demo: data in, the run carried out by workers of which one is killed, its results in a file."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy import select

from app.clock import system_clock
from app.errors import ConfigError, NotFound
from app.governance.models_keys import Tenant
from app.packs.treatments.bank import contacted_until
from app.packs.treatments.demo_data import CATALOGUE, CUSTOMERS, OUTCOMES, Called, Scale, judged_calls, write_files
from app.packs.treatments.demo_folder import Steps, Worker
from app.packs.treatments.demo_program import POLL_S, Child, Program
from app.packs.treatments.models import Run, RunState
from app.packs.treatments.run_view import STANDING
from app.storage.db import Database

LOCAL: Final = "local"
RESULTS: Final = "results.csv"
Until = Callable[[Run], bool]


class DemoRun:
    """Every step may be interrupted, and is done once. Closed by `close`."""

    def __init__(self, path: Path, scale: Scale, home: Path, out: Console, *, kills: bool) -> None:
        self.scale, self.home = scale, home
        self._path, self._out, self._kills = path, out, kills
        self.steps = Steps(home)
        self._program = Program(home)
        self.db = Database(f"sqlite+aiosqlite:///{home / 'trellis.db'}")

    async def close(self) -> None:
        await self.db.close()

    async def carry_out(self) -> Run:
        """The run once it is done, its results in `RESULTS`. Raises TrellisError where any of it fails."""
        await self._prepare()
        await self._work()
        run = await self.run()
        await self._once("results", "treatments", "export", run.id, "--to", str(self.home / RESULTS))
        return run

    def judged(self) -> Mapping[str, Called]:
        """Blocks: called in a thread."""
        return judged_calls(self._path, self.scale)

    async def run(self) -> Run:
        """As it stands. Raises NotFound before it is made."""
        found = await self._find_run()
        if found is None:
            raise NotFound("The demo's run is not there.")
        return found

    async def _prepare(self) -> None:
        if not self.steps.done("files"):
            with self._out.status("Writing the files"):
                await asyncio.to_thread(write_files, self._path, self.scale, self.home)
            self.steps.finish("files")
        await self._once("schema", "migrate")
        if not await self._has_tenant():
            await self._command("keys", "create", "--label", "demo", "--new-tenant", "Demo", secret=True)
        await self._once("catalogue", "treatments", "catalogue", str(self.home / CATALOGUE))
        await self._once("customers", "treatments", "import", str(self.home / CUSTOMERS))
        await self._once("outcomes", "treatments", "outcomes", str(self.home / OUTCOMES))
        if await self._find_run() is None:
            as_of = await asyncio.to_thread(contacted_until, self._path)
            await self._command("treatments", "run", "--as-of", f"{as_of:%Y-%m-%dT%H:%M:%S}", "--seed", "0")

    async def _once(self, step: str, *arguments: str) -> None:
        if not self.steps.done(step):
            await self._command(*arguments)
            self.steps.finish(step)

    async def _command(self, *arguments: str, secret: bool = False) -> None:
        with self._out.status(f"{self.scale.customers:,} customers: trellis {' '.join(arguments[:2])}"):
            await self._program.command(*arguments, secret=secret)

    async def _work(self) -> None:
        """Workers one after the other until the run is done. Raises ConfigError where it cannot be."""
        with _bar(self._out) as bar:
            task = bar.add_task(f"{self.scale.customers:,} customers", total=self.scale.customers)
            run = await self.run()
            if self._kills and not self.steps.progress.kills and not _stands(run):
                await self._killed_in_the_middle(bar, task)
                run = await self.run()
            if run.state != RunState.DONE:
                with self._worker() as worker:
                    run = await self._until(worker, _stands, bar, task)
        if run.state != RunState.DONE:
            raise ConfigError(f"The run is {run.state}: {run.reason}")

    async def _killed_in_the_middle(self, bar: Progress, task: TaskID) -> None:
        """Unless the run was over before it could be."""
        with self._worker() as worker:
            run = await self._until(worker, lambda run: _half(run) or _stands(run), bar, task)
            if run.state == RunState.RUNNING:
                worker.kill()
                bar.console.print(f"Killed the worker after {run.finished:,} of {run.total:,} customers.")

    @contextmanager
    def _worker(self) -> Iterator[Child]:
        """A worker, ended with the block however that ends, and remembered."""
        with self._program.child("worker") as child:
            try:
                yield child
            finally:
                child.end()
                self.steps.add(Worker(ended_at=system_clock(), peak=child.peak, killed=child.killed))

    async def _until(self, worker: Child, holds: Until, bar: Progress, task: TaskID) -> Run:
        while True:
            run = await self.run()
            bar.update(task, completed=run.finished, description=f"{self.scale.customers:,} customers: {run.state}")
            if holds(run):
                return run
            if worker.ended() is not None:
                raise ConfigError(f"The worker ended by itself: {self._program.last_words()}")
            await asyncio.sleep(POLL_S)

    async def _find_run(self) -> Run | None:
        async with self.db.operator_reading() as session:
            found: Run | None = await session.scalar(select(Run).where(Run.tenant_id == LOCAL).limit(1))
        return found

    async def _has_tenant(self) -> bool:
        async with self.db.operator_reading() as session:
            return await session.get(Tenant, LOCAL) is not None


def _half(run: Run) -> bool:
    """Half of the customers decided; not before they were counted."""
    return run.state == RunState.RUNNING and 2 * run.finished >= run.total > 0


def _stands(run: Run) -> bool:
    """Whether it has ended, or waits for a person."""
    return run.state in STANDING or (run.state == RunState.PAUSED and run.resume_at is None)


def _bar(out: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, transient=True)
