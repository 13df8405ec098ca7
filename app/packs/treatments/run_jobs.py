"""The background work of runs: start, chunks, allocation, the sweep that lets nothing lie, the nightly evaluation."""

from typing import Any, Final

import structlog

from app.errors import Retryable, TrellisError
from app.jobs.port import Job, JobContext, QueueSpec, Schedule, StepFailed
from app.messages.base import Topic
from app.pack import Kit
from app.packs.treatments.asking import STAGE
from app.packs.treatments.chunks import ChunkWork
from app.packs.treatments.lanes import ALLOCATE_JOB, CHUNK_JOB, LOOK_AGAIN, START_JOB, Lanes, SwitchedOff
from app.packs.treatments.models import Run, RunState
from app.packs.treatments.reservations import Reservations
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.stages import ALLOCATION, EVALUATION, RunAsked
from app.packs.treatments.sweep import Sweep
from app.principal import worker
from app.telemetry.spans import span

QUEUE: Final = "treatments"
UPKEEP: Final = "treatments.upkeep"
SWEEP_JOB: Final = "treatments.sweep"
NIGHTLY_JOB: Final = "treatments.evaluate"
ATTEMPTS: Final = 4
ALLOCATION_S: Final = 1800.0
SPARE_SLOTS: Final = 2
"""A lane's next chunk is queued while its last one still holds its slot."""
log = structlog.get_logger(__name__)


class RunJobs:
    def __init__(self, kit: Kit, lanes: Lanes, chunks: ChunkWork) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._lanes = lanes
        self._chunks = chunks
        self._sweep = Sweep(kit, lanes)
        self._reservations = Reservations(kit)

    async def start(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        return {"state": await context.step("start", self._started, payload["tenant_id"], payload["run_id"])}

    async def chunk(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        ids = (payload["tenant_id"], payload["run_id"], payload["chunk_id"])
        if "give_up" in payload:
            return {"came": await context.step("give up", self._chunks.give_up, *ids, payload["give_up"])}
        return {"came": await context.step("chunk", self._chunks.work, *ids)}

    async def allocate(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        """Three steps, so that a crash repeats none that is done; the stages bear being asked twice all the same."""
        ids = (payload["tenant_id"], payload["run_id"])
        try:
            came, note = await context.step("allocate", self._allocated, *ids, attempts=ATTEMPTS)
        except StepFailed as error:
            await context.step("fail", self._ended, *ids, RunState.FAILED, error.reason[:1000])
            raise
        if came == RunState.PAUSED:
            return {"state": await context.step("pause", self._paused, *ids, note)}
        if came == RunState.FAILED:
            return {"state": await context.step("fail", self._ended, *ids, RunState.FAILED, note)}
        try:
            note = f"{note} {await context.step('evaluate', self._evaluated, *ids, attempts=2)}".strip()
        except StepFailed as error:
            # The decisions stand; what they were worth is looked at again each night.
            note = f"{note} Not evaluated yet: {error.reason[:500]}".strip()
        return {"state": await context.step("done", self._ended, *ids, RunState.DONE, note)}

    async def sweep(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        expired = await context.step("expire", self._reservations.expire)
        return {"expired": expired, "mended": await context.step("sweep", self._sweep.all)}

    async def nightly(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        return {"evaluated": await context.step("evaluate", self._evaluated_all)}

    def declared(self) -> tuple[tuple[Job, ...], tuple[QueueSpec, ...], tuple[Schedule, ...]]:
        jobs = (
            Job(START_JOB, QUEUE, self.start),
            Job(CHUNK_JOB, QUEUE, self.chunk),
            Job(ALLOCATE_JOB, QUEUE, self.allocate),
            Job(SWEEP_JOB, UPKEEP, self.sweep),
            Job(NIGHTLY_JOB, UPKEEP, self.nightly),
        )
        queues = (
            QueueSpec(QUEUE, self._lanes.number + SPARE_SLOTS),
            QueueSpec(UPKEEP, 1, polling_interval_s=5.0, everywhere=1),
        )
        schedules = (
            Schedule(SWEEP_JOB, "* * * * *", SWEEP_JOB),
            Schedule(NIGHTLY_JOB, "23 2 * * *", NIGHTLY_JOB),
        )
        return jobs, queues, schedules

    async def _started(self, tenant_id: str, run_id: str) -> str:
        async with self._db.transaction(tenant_id) as session:
            runs = RunRepository(session, tenant_id)
            run = await runs.locked(run_id)
            if run is None or run.state != RunState.QUEUED:
                return "" if run is None else run.state
            if run.started_at is None:
                run.started_at, run.total = self._kit.ports.clock(), await runs.count(run)
            self._lanes.move(run, RunState.RUNNING)
            await self._lanes.fill(session, run)
            return run.state

    async def _allocated(self, tenant_id: str, run_id: str) -> tuple[RunState, str]:
        """What the run is to be, and what is to be said of it: failed where it cannot be allocated, however often it is
        tried, paused while a kill switch stops it."""
        run = await self._still_allocating(tenant_id, run_id)
        if run is None or not run.allocate:
            return RunState.DONE, ""
        try:
            return RunState.DONE, await self._told(ALLOCATION, run)
        except SwitchedOff as error:
            return RunState.PAUSED, error.detail
        except Retryable:
            raise
        except TrellisError as error:
            return RunState.FAILED, error.detail

    async def _evaluated(self, tenant_id: str, run_id: str) -> str:
        run = await self._still_allocating(tenant_id, run_id)
        return await self._told(EVALUATION, run) if run is not None else ""

    async def _evaluated_all(self) -> int:
        """Asks for the evaluation of each run that ended in the last weeks: outcomes come late."""
        evaluated = 0
        for run in await self._sweep.lately_done():
            try:
                await self._told(EVALUATION, run)
                evaluated += 1
            except TrellisError as error:
                log.warning("treatments run not evaluated", run_id=run.id, error=error.detail)
        return evaluated

    async def _still_allocating(self, tenant_id: str, run_id: str) -> Run | None:
        async with self._db.reading(tenant_id) as session:
            run = await RunRepository(session, tenant_id).find(run_id)
        return run if run is not None and run.state == RunState.ALLOCATING else None

    async def _told(self, topic: Topic[RunAsked, Any], run: Run) -> str:
        asked = RunAsked(run.tenant_id, run.id, worker(run.tenant_id).actor)
        with span(STAGE, {"trellis.stage": topic.name, "trellis.run": run.id}):
            answer = await self._kit.messenger.ask(topic, asked, key=run.id, timeout_s=ALLOCATION_S)
        return str(answer.note)

    async def _paused(self, tenant_id: str, run_id: str, reason: str) -> str:
        """The sweep lets the run go on: it then has nothing left to decide and comes to its allocation again."""
        async with self._db.transaction(tenant_id) as session:
            run = await RunRepository(session, tenant_id).locked(run_id)
            if run is None or run.state != RunState.ALLOCATING:
                return "" if run is None else run.state
            self._lanes.pause(run, reason, self._kit.ports.clock() + LOOK_AGAIN)
            return run.state

    async def _ended(self, tenant_id: str, run_id: str, state: str, reason: str) -> str:
        async with self._db.transaction(tenant_id) as session:
            run = await RunRepository(session, tenant_id).locked(run_id)
            if run is None or run.state != RunState.ALLOCATING:
                return "" if run is None else run.state
            self._lanes.move(run, RunState(state), reason)
            about = {"state": state, "customers": run.finished, "set_aside": run.set_aside}
            await self._kit.audit.record(session, worker(tenant_id), "treatments.run_ended", run_id, about)
            return run.state
