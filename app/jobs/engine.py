"""Durable background jobs over DBOS, in the application's own database. See docs/decisions/0002-jobs.md."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import structlog
from dbos import DBOSClient, PortableWorkflowError, WorkflowStatus, error
from opentelemetry.trace import SpanKind
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from app.clock import Clock, system_clock
from app.errors import ConfigError, Conflict, NotFound
from app.jobs.catalogue import Catalogue
from app.jobs.logs import route_engine_logs
from app.jobs.port import Job, JobContext, JobState, JobStatus, Progress, QueueSpec, Schedule, StepFailed
from app.jobs.store import Store, open_store
from app.jobs.worker import Identity, Worker
from app.telemetry import names, spans
from app.telemetry.errors import NoReporter, Reporter
from app.telemetry.metrics import JOB_OUTCOMES, Metrics

PURGE_JOB = "jobs.purge"
MAINTENANCE_QUEUE = "maintenance"
_PURGE_BATCH = 500
_GAUGES_EVERY_S = 10.0
_STATES = {
    "ENQUEUED": JobState.QUEUED,
    "DELAYED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.DONE,
    "ERROR": JobState.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}
_FINISHED = ["SUCCESS", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", "CANCELLED"]
_TO_RING = "jobs.queues_to_ring"
_log = structlog.get_logger(__name__)


class Jobs:
    """Register, migrate once, start; then enqueue inside the transactions that the jobs belong to.

    Args:
        url: the application's database (`sqlite+aiosqlite` or `postgresql+asyncpg`).
        executor_id: fixed on SQLite (one worker), the pod's name on PostgreSQL.
        version: names the shape of the jobs' steps. A worker takes up unfinished jobs of its own version only, so
            it changes when the steps of a job do, after the old ones were drained.
        keep: how long finished jobs are kept; within it, enqueueing a used `job_id` again does nothing.
        dead_after_s: silence after which another worker's jobs are taken over (PostgreSQL).
        pool_size: connections of the engine's own on PostgreSQL.
        reporter: is told of a job that failed.
    """

    def __init__(
        self,
        url: str,
        *,
        metrics: Metrics,
        reporter: Reporter | None = None,
        executor_id: str = "embedded",
        version: str = "1",
        clock: Clock = system_clock,
        keep: timedelta = timedelta(days=30),
        dead_after_s: float = 30.0,
        pool_size: int = 8,
    ) -> None:
        self._url = url
        self._metrics = metrics
        self._reporter = reporter or NoReporter()
        self._identity = Identity(executor_id, version, dead_after_s)
        self._clock = clock
        self._keep = keep
        self._pool_size = pool_size
        self._catalogue = Catalogue()
        self._catalogue.add(
            [Job(PURGE_JOB, MAINTENANCE_QUEUE, self._purge)],
            [QueueSpec(MAINTENANCE_QUEUE, worker_concurrency=1, polling_interval_s=5.0)],
            [Schedule(PURGE_JOB, "17 3 * * *", PURGE_JOB)],
        )
        self._store: Store | None = None
        self._worker: Worker | None = None
        self._ending = False
        self._gauges: asyncio.Task[None] | None = None
        route_engine_logs()

    def register(
        self, jobs: Sequence[Job], queues: Sequence[QueueSpec] = (), schedules: Sequence[Schedule] = ()
    ) -> None:
        """Before `start`, in every process, also one that only enqueues. Raises ConfigError for clashing names."""
        if self._store is not None:
            raise ConfigError("Jobs are registered before they are started.")
        self._catalogue.add(jobs, queues, schedules)

    async def migrate(self) -> None:
        """Creates or upgrades the engine's tables. A worker's start does it too; other processes need it done."""
        store = open_store(self._url, worker=True, pool_size=2)
        try:
            await asyncio.to_thread(store.migrate)
        finally:
            await asyncio.to_thread(store.close)

    async def start(self, worker: bool) -> None:
        """Ready to enqueue; with `worker`, jobs begin to run on this event loop, recovered ones first.

        Raises:
            ConfigError: for a second worker, or without `worker` where the tables are missing or old.
        """
        if self._store is not None:
            raise ConfigError("These jobs are started already.")
        self._store = open_store(self._url, worker=worker, pool_size=self._pool_size)
        try:
            if worker:
                await self._start_worker(self._store)
            else:
                await asyncio.to_thread(self._store.verify)
        except BaseException:
            await self._close_store()
            raise

    async def _start_worker(self, store: Store) -> None:
        worker = Worker(store, self._catalogue, self._identity, self._metrics, self._reporter)
        # At 0 before the first job of its name ends: a first failure is then an increase.
        for job in self._catalogue.jobs:
            for outcome in JOB_OUTCOMES:
                self._metrics.jobs_finished.labels(job, outcome)
        await worker.start()
        self._worker = worker
        self._gauges = asyncio.create_task(self._keep_gauges())

    async def take_no_more(self) -> None:
        """The process is about to end: what runs here goes on until `stop`, nothing more is begun."""
        if self._worker is not None:
            self._ending = True
            await self._worker.take_no_more()

    async def stop(self, grace_s: float) -> None:
        """Takes no more jobs, waits up to `grace_s` for the running ones; what is left goes back into its queue, for
        another worker or the next start.

        Stopping what is not started does nothing; it may be started again.
        """
        self._ending = False
        if self._gauges is not None:
            self._gauges.cancel()
            self._gauges = None
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker.stop(grace_s)
        await self._close_store()

    async def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            await asyncio.to_thread(store.close)

    @property
    def alive(self) -> bool:
        """Started, and every queue's thread runs (where this process is a worker)."""
        return self._store is not None and (self._worker is None or self._ending or self._worker.alive)

    async def enqueue(
        self,
        session: AsyncSession,
        name: str,
        payload: dict[str, Any],
        *,
        job_id: str,
        priority: int = 0,
        delay_s: float = 0,
    ) -> None:
        """Adds a job in the session's transaction: the commit lets it run, a rollback leaves nothing of it.

        A `job_id` that is known already adds nothing. 0 is the highest priority. A delay is kept to about a second.

        Raises:
            ConfigError: for a name that nobody registered.
            Conflict: where `job_id` belongs to a job of another name.
        """
        job = self._catalogue.job(name)
        client = self._client
        options: dict[str, Any] = {"workflow_name": name, "queue_name": job.queue, "workflow_id": job_id}
        if priority:
            options["priority"] = priority
        if delay_s > 0:
            options["delay_seconds"] = delay_s

        def add(sync_session: Session) -> None:
            client.enqueue_in_transaction(sync_session, options, payload, spans.carrier())  # type: ignore[arg-type]
            self._ring_after_commit(sync_session, job.queue)

        told = {names.JOB: name, names.JOB_ID: job_id, names.JOB_QUEUE: job.queue}
        try:
            with spans.span(f"enqueue {name}", told, SpanKind.PRODUCER):
                await session.run_sync(add)
        except error.DBOSConflictingWorkflowError as problem:
            raise Conflict(f"The job id '{job_id}' belongs to a job of another kind: use another id.") from problem

    def _ring_after_commit(self, session: Session, queue: str) -> None:
        if self._worker is None:
            return
        if _TO_RING not in session.info:
            session.info[_TO_RING] = set()
            event.listen(session, "after_commit", self._ring)
        session.info[_TO_RING].add(queue)

    def _ring(self, session: Session) -> None:
        # Also called for a savepoint, too early to be of use: so the queues stay noted until the session is gone.
        if self._worker is not None:
            for queue in session.info[_TO_RING]:
                self._worker.ring(queue)

    async def status(self, job_id: str) -> JobStatus | None:
        """None for an id that was never committed, or was purged."""
        found = await self._client.list_workflows_async(workflow_ids=[job_id], load_input=False)
        return _status(found[0]) if found else None

    async def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """Of those that are known; at most a few hundred ids."""
        if not job_ids:
            return {}
        found = await self._client.list_workflows_async(workflow_ids=list(job_ids), load_input=False, load_output=False)
        return {workflow.workflow_id: _STATES[workflow.status] for workflow in found}

    async def cancel(self, job_id: str) -> JobStatus:
        """A waiting job never runs; a running one is told within a second. A finished job stays as it is.

        Raises:
            NotFound: for an unknown id.
        """
        status = await self._known(job_id)
        if status.state not in (JobState.QUEUED, JobState.RUNNING):
            return status
        await self._client.cancel_workflow_async(job_id)
        return await self._known(job_id)

    async def retry(self, job_id: str) -> JobStatus:
        """Queues a failed or cancelled job again under its id. Steps before the first failed one keep their results.

        Raises:
            NotFound: for an unknown id.
            Conflict: for a job that is waiting, running or done.
        """
        status = await self._known(job_id)
        if status.state not in (JobState.FAILED, JobState.CANCELLED):
            raise Conflict(f"The job '{job_id}' is {status.state}: only a failed or cancelled one is tried again.")
        queue = self._catalogue.job(status.name).queue
        steps = await self._client.list_workflow_steps_async(job_id)
        failed = [step["function_id"] for step in steps if step["error"] is not None]
        after_all = max((step["function_id"] for step in steps), default=0) + 1
        try:
            await self._client.rewind_workflow_async(
                job_id,
                start_step=min(failed, default=after_all),
                application_version=self._identity.version,
                queue_name=queue,
            )
        except error.DBOSException as problem:
            raise Conflict(f"The job '{job_id}' changed in the meantime: look at it again.") from problem
        if self._worker is not None:
            self._worker.ring(queue)
        return await self._known(job_id)

    async def erase(self, ids: Collection[str]) -> int:
        """Deletes the jobs whose payload names one of these ids (as `new_id` makes them), with all that their steps
        left: results and error texts. A waiting one never runs; one that runs stays until it is asked for again.
        Returns how many.
        """
        if not ids:
            return 0
        store = self._started
        found = await asyncio.to_thread(store.finished_naming, ids)
        await asyncio.to_thread(store.delete, found)
        return len(found)

    async def depth(self) -> dict[str, tuple[int, float]]:
        """For each registered queue: the jobs that wait, and the age of the oldest in seconds (0.0 for none)."""
        found = await asyncio.to_thread(self._started.waiting)
        now_ms = self._clock().timestamp() * 1000
        depths = dict.fromkeys(self._catalogue.queues, (0, 0.0))
        for name, (count, oldest_ms) in found.items():
            depths[name] = (count, max(0.0, (now_ms - oldest_ms) / 1000))
        return depths

    @property
    def _started(self) -> Store:
        if self._store is None:
            raise ConfigError("The jobs are not started.")
        return self._store

    @property
    def _client(self) -> DBOSClient:
        return self._started.client

    async def _known(self, job_id: str) -> JobStatus:
        status = await self.status(job_id)
        if status is None:
            raise NotFound(f"There is no job '{job_id[:80]}'.")
        return status

    async def _keep_gauges(self) -> None:
        while True:
            try:
                for queue, (count, age_s) in (await self.depth()).items():
                    self._metrics.jobs_queue_depth.labels(queue=queue).set(count)
                    self._metrics.jobs_oldest_age_seconds.labels(queue=queue).set(age_s)
            except Exception:
                _log.warning("jobs_gauges_failed", exc_info=True)
            await asyncio.sleep(_GAUGES_EVERY_S)

    async def _purge(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        """Deletes what finished before the time to keep, in batches; a crash in between costs nothing."""
        cutoff = (self._clock() - self._keep).isoformat()
        deleted = 0
        while True:
            old = await self._client.list_workflows_async(
                status=_FINISHED, completed_before=cutoff, limit=_PURGE_BATCH, load_input=False, load_output=False
            )
            await self._client.delete_workflows_async([job.workflow_id for job in old])
            deleted += len(old)
            await context.progress(deleted, 0)
            if len(old) < _PURGE_BATCH:
                return {"deleted": deleted}


def _status(found: WorkflowStatus) -> JobStatus:
    state = _STATES[found.status]
    told = (found.attributes or {}).get("progress")
    return JobStatus(
        job_id=found.workflow_id,
        name=found.name,
        state=state,
        error=_error_text(found) if state is JobState.FAILED else None,
        progress=Progress(**told) if told else None,
        result=found.output if state is JobState.DONE else None,
    )


def _error_text(found: WorkflowStatus) -> str:
    if found.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        return f"Given up: the process died each of the {found.recovery_attempts} times that the job was started."
    problem = found.error
    if isinstance(problem, PortableWorkflowError) and problem.name != StepFailed.__name__:
        return f"{problem.name}: {problem.message}"
    return str(problem)
