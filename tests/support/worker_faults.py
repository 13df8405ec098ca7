"""Workers that are killed at boundaries of a job's steps, by seed: is anything lost, or done twice?

`run_many(seeds, url)` is a death for each seed on one set of workers, which is what makes them cheap: a process that
has everything imported is forked for each one that died. The database has both schemas.
"""

import asyncio
import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import select

from app.agent.models import EffectRow, EffectState, ToolMode
from app.agent.tools import ToolPolicies
from app.clock import system_clock
from app.governance.audit import Audit
from app.ids import new_id
from app.jobs.engine import Jobs
from app.jobs.port import Job, JobContext, JobState
from app.principal import Principal, Role
from app.storage.db import Database
from app.storage.postgres import ServerPool
from app.telemetry.metrics import Metrics
from tests.support import faulty_worker
from tests.support.faulty_worker import BOUNDARIES, QUEUE, TENANT, TOOL

DEAD_AFTER_S = 2.0
"""Silence after which a worker counts as dead; 30 in production."""
PATIENCE_S = 90.0
WORKERS = 3
LANES = 4
ATTEMPTS = 5
COUNTED = ("tried", "failed", "lost", "doubled", "parked")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One death, and the jobs that were under way beside it.

    `lost`: jobs that did not end, or ended without their effect and without a word. `doubled`: things that were sent
    twice. `parked`: of unknown fate, reported to a person. `recovery_s`: from the kill to the last job's end (None: not
    killed).
    """

    seed: int
    boundary: str
    tried: int
    failed: int
    lost: int
    doubled: int
    parked: int
    recovery_s: float | None


class Fleet:
    """`WORKERS` living worker processes and a front that only enqueues. Made by `open_fleet`."""

    def __init__(self, url: str, folder: Path, front: Jobs, db: Database) -> None:
        self._url = url
        self._folder = folder
        self._front = front
        self._db = db
        self._name = new_id("fleet")
        self._started = 0
        self._workers: list[ForkServerProcess] = []
        self._fork = multiprocessing.get_context("forkserver")
        self._fork.set_forkserver_preload([faulty_worker.__name__])

    @property
    def deaths(self) -> int:
        """Workers that were replaced."""
        return self._started - WORKERS

    async def keep_alive(self) -> None:
        """Begins a worker for each that is missing, for ever."""
        while True:
            self._workers = [worker for worker in self._workers if worker.is_alive()]
            while len(self._workers) < WORKERS:
                await asyncio.to_thread(self._start)
            await asyncio.sleep(0.05)

    def _start(self) -> None:
        self._started += 1
        arguments = (self._url, f"{self._name}-{self._started}", self._folder, DEAD_AFTER_S)
        worker = self._fork.Process(target=faulty_worker.work, args=arguments, daemon=True)
        worker.start()
        self._workers.append(worker)

    def end(self) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join(20)
            if worker.is_alive():
                worker.kill()
                worker.join(20)

    async def run(self, seed: int) -> Outcome:
        """One deadly job and its neighbours, to their ends. Raises AssertionError where nobody died.

        A neighbour's death may park the deadly job before it is at its own boundary: then with others again.
        """
        found: list[Outcome] = []
        while not found or found[-1].recovery_s is None:
            assert len(found) < ATTEMPTS, f"seed {seed}: nobody reached '{found[-1].boundary}': {found}"
            found.append(await self._once(seed, len(found)))
        return replace(found[-1], **{name: sum(getattr(one, name) for one in found) for name in COUNTED})

    async def _once(self, seed: int, attempt: int) -> Outcome:
        dice = random.Random(f"{seed}:{attempt}")
        boundary = BOUNDARIES[seed % len(BOUNDARIES)]
        ids = [f"{self._name}-{seed}-{attempt}-{number}" for number in range(dice.randint(2, 4))]
        for job_id in dice.sample(ids, len(ids)):
            async with self._db.transaction(TENANT) as session:
                payload = {"die_at": boundary if job_id == ids[0] else None}
                await self._front.enqueue(session, "faulty", payload, job_id=job_id)
        states = await self._ended(ids)
        ended_at = time.time()
        killed = self._folder / f"{ids[0]}.killed"
        took = ended_at - float(killed.read_text()) if killed.exists() else None
        return await self._outcome(seed, boundary, states, took)

    async def _ended(self, ids: Sequence[str]) -> dict[str, JobState]:
        """The states once all have ended, or patience has."""
        until = time.monotonic() + PATIENCE_S
        while True:
            states = await self._front.states(ids)
            over = all(states.get(job_id) in (JobState.DONE, JobState.FAILED) for job_id in ids)
            if over or time.monotonic() > until:
                return {job_id: states.get(job_id, JobState.QUEUED) for job_id in ids}
            await asyncio.sleep(0.05)

    async def _outcome(
        self, seed: int, boundary: str, states: dict[str, JobState], recovery_s: float | None
    ) -> Outcome:
        sent = Counter((self._folder / "outside").read_text().split())
        parked = await self._parked(states)
        told = [job_id for job_id in parked if await self._told(job_id)]
        unsent = [job_id for job_id, state in states.items() if state is JobState.DONE and not sent[job_id]]
        unended = [job_id for job_id, state in states.items() if state not in (JobState.DONE, JobState.FAILED)]
        return Outcome(
            seed,
            boundary,
            tried=len(states),
            failed=sum(state is JobState.FAILED for state in states.values()),
            lost=len({*unended, *unsent, *parked} - {*told}),
            doubled=sum(sent[job_id] > 1 for job_id in states),
            parked=len(told),
            recovery_s=recovery_s and round(recovery_s, 2),
        )

    async def _parked(self, ids: Iterable[str]) -> list[str]:
        """What the ledger holds for a person to look at."""
        parked = select(EffectRow.key).where(EffectRow.key.in_(list(ids)), EffectRow.state == EffectState.PARKED)
        async with self._db.reading(TENANT) as session:
            return list(await session.scalars(parked))

    async def _told(self, job_id: str) -> bool:
        """Whether the job itself ended saying so."""
        status = await self._front.status(job_id)
        return status is not None and status.result == {"state": "parked"}


@asynccontextmanager
async def open_fleet(url: str, front_url: str | None = None) -> AsyncIterator[Fleet]:
    """`url` is the workers' way to the database, `front_url` (PgBouncer) that of the process that enqueues."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-faults-"))
    (folder / "outside").touch()
    db = Database(front_url or url, pool=ServerPool(pooled=front_url is not None))
    front = Jobs(front_url or url, metrics=Metrics(CollectorRegistry()), executor_id="front")
    front.register([Job("faulty", QUEUE.name, _elsewhere)], [QUEUE])
    fleet = Fleet(url, folder, front, db)
    try:
        await _allow(db)
        await front.start(worker=False)
        keeping = asyncio.create_task(fleet.keep_alive())
        yield fleet
        keeping.cancel()
        await asyncio.wait([keeping])
        if not keeping.cancelled():
            keeping.result()
    finally:
        await asyncio.to_thread(fleet.end)
        await front.stop(0)
        await db.close()
        shutil.rmtree(folder)


async def _elsewhere(_context: JobContext, _payload: dict[str, object]) -> None:
    raise AssertionError("the front runs no jobs")


async def _allow(db: Database) -> None:
    """The tool, for the tenant of these runs."""
    policies = ToolPolicies(db, system_clock, Audit(system_clock))
    async with db.transaction(TENANT) as session:
        await policies.set(session, Principal(TENANT, "test", Role.ADMIN), TOOL, ToolMode.ALLOW)


async def run_many(seeds: Iterable[int], url: str, front_url: str | None = None) -> list[Outcome]:
    """Each seed's outcome, in the order of the seeds; `LANES` of them at a time."""
    gate = asyncio.Semaphore(LANES)
    async with open_fleet(url, front_url) as fleet:

        async def one(seed: int) -> Outcome:
            async with gate:
                return await fleet.run(seed)

        return list(await asyncio.gather(*map(one, seeds)))
