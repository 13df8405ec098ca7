"""One run of one job: its context, its trace, its outcome in metrics and logs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

import orjson
import structlog
from dbos import DBOS, DBOSClient, error
from opentelemetry.trace import SpanKind

from app.jobs.bell import Slots
from app.jobs.port import Job, JobContext, StepFailed
from app.storage.failures import is_away
from app.telemetry import names, spans
from app.telemetry.errors import Reporter
from app.telemetry.metrics import Metrics

Result = TypeVar("Result")
Workflow = Callable[..., Coroutine[Any, Any, Any]]

_PROGRESS_INTERVAL_S = 0.25
_log = structlog.get_logger(__name__)


def as_json(owner: str, value: Any) -> Any:
    """The value as a replay would give it; raises TypeError naming the owner where it is not JSON."""
    try:
        return orjson.loads(orjson.dumps(value))
    except TypeError as problem:
        raise TypeError(f"{owner} returned something that is not JSON: {problem}") from problem


def _no_outcome(problem: Exception) -> bool:
    """Whether an error is no outcome of the job: its task was told to stop, or the database is away. Such a job stays
    running in the engine's eyes, and is put back into its queue (`orphans`)."""
    task = asyncio.current_task()
    return (task is not None and task.cancelling() > 0) or is_away(problem)


class Context:
    """The `JobContext` of a run on the engine."""

    def __init__(self, job_id: str, client: DBOSClient) -> None:
        self._job_id = job_id
        self._client = client
        self._told_at = -_PROGRESS_INTERVAL_S

    @property
    def job_id(self) -> str:
        return self._job_id

    async def step(self, name: str, fn: Callable[..., Awaitable[Result]], *args: Any, attempts: int = 1) -> Result:
        async def body() -> Any:
            try:
                return as_json(f"Step '{name}'", await fn(*args))
            except Exception as problem:
                if _no_outcome(problem):
                    raise asyncio.CancelledError from problem
                # Here, where the traceback still ends at the step, not in the layers of the engine.
                _log.warning("step_failed", step=name, exc_info=True)
                raise

        options: Any = {"name": name, "preemptible": True, "retries_allowed": attempts > 1, "max_attempts": attempts}
        try:
            return cast(Result, await DBOS.run_step_async(options, body))
        except Exception as problem:
            if _no_outcome(problem):
                raise asyncio.CancelledError from problem
            raise StepFailed(name, _reason(problem)) from problem

    async def progress(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - self._told_at < _PROGRESS_INTERVAL_S:
            return
        self._told_at = now
        told = {"progress": {"done": done, "total": total, "note": note}}
        await self._client.update_workflow_attributes_async(self._job_id, told)


def _reason(problem: BaseException) -> str:
    if isinstance(problem, error.DBOSMaxStepRetriesExceeded) and problem.errors:
        problem = problem.errors[-1]
    # An error that was recorded comes back under another class that carries the first one's name.
    name = getattr(problem, "name", None) or type(problem).__name__
    return f"{name}: {problem}"


class Runner:
    """Makes the engine's workflow functions, and knows which tasks and which jobs run."""

    def __init__(self, client: DBOSClient, slots: Slots, metrics: Metrics, reporter: Reporter) -> None:
        self._client = client
        self._slots = slots
        self._metrics = metrics
        self._reporter = reporter
        self.tasks: set[asyncio.Task[Any]] = set()
        self.running: set[str] = set()

    def workflow(self, job: Job) -> Workflow:
        """The function to register: called with the payload and a trace, or by the scheduler with a time and None."""

        async def run(payload: Any, carrier: Any = None) -> Any:
            task, job_id = cast("asyncio.Task[Any]", asyncio.current_task()), cast(str, DBOS.workflow_id)
            self.tasks.add(task)
            self.running.add(job_id)
            self._slots.take(job.queue)
            task.add_done_callback(lambda _: self._finished(task, job_id, job.queue))
            if not isinstance(payload, dict):
                payload = {"scheduled_at": str(payload)}
            return await self._traced(job, Context(job_id, self._client), payload, carrier)

        return run

    def _finished(self, task: asyncio.Task[Any], job_id: str, queue: str) -> None:
        self.tasks.discard(task)
        self.running.discard(job_id)
        self._slots.free(queue)

    async def _traced(self, job: Job, context: JobContext, payload: dict[str, Any], carrier: Any) -> Any:
        told = {names.JOB: job.name, names.JOB_ID: context.job_id, names.JOB_QUEUE: job.queue}
        with (
            spans.span(f"job {job.name}", told, SpanKind.CONSUMER, spans.continued(carrier)),
            structlog.contextvars.bound_contextvars(job=job.name, job_id=context.job_id),
        ):
            return await self._measured(job, context, payload)

    async def _measured(self, job: Job, context: JobContext, payload: dict[str, Any]) -> Any:
        started = time.perf_counter()
        try:
            result = as_json(f"Job '{job.name}'", await job.run(context, payload))
        except error.DBOSWorkflowCancelledError:
            self._count(job, "cancelled", started)
            _log.info("job_cancelled")
            raise
        except Exception as problem:
            if _no_outcome(problem):
                raise asyncio.CancelledError from problem
            self._count(job, "failed", started)
            in_step = isinstance(problem, StepFailed)
            _log.error("job_failed", error=str(problem) if in_step else _reason(problem), exc_info=not in_step)
            if in_step:
                # Any other is told by its line in the log.
                self._reporter.report(problem.__cause__ or problem, f"job {job.name}")
            raise
        self._count(job, "done", started)
        return result

    def _count(self, job: Job, outcome: str, started: float) -> None:
        self._metrics.jobs_finished.labels(task=job.name, outcome=outcome).inc()
        self._metrics.job_duration_seconds.labels(task=job.name).observe(time.perf_counter() - started)
