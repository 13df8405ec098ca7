"""Durable jobs as the packs see them: what a job is, what it is given, how it stands."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from app.errors import ConfigError, TrellisError

Result = TypeVar("Result")


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job says that it is; `total` is 0 where it does not know."""

    done: int
    total: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job as it stands. `error` is set on a failed one, `result` on a done one (what `run` returned)."""

    job_id: str
    name: str
    state: JobState
    error: str | None = None
    progress: Progress | None = None
    result: dict[str, Any] | None = None


class StepFailed(TrellisError):
    """A step raised, in its last attempt. The same error comes out of the step when the job is replayed."""

    status, code, title = 500, "step-failed", "A step of a job failed"

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"Step '{step}' failed: {reason}")
        self.step = step
        self.reason = reason


class JobContext(Protocol):
    """What a running job may do. The body of a job around its steps must be deterministic: it runs again from
    the top after a crash, and the steps that had finished give their recorded results."""

    @property
    def job_id(self) -> str: ...

    async def step(self, name: str, fn: Callable[..., Awaitable[Result]], *args: Any, attempts: int = 1) -> Result:
        """Runs `fn(*args)` and records its result once; a later run of the job gets the recorded one.

        The result must be JSON, and comes back as JSON has it (a tuple as a list), so that the first run and a
        replay see the same. `attempts` above 1 tries again after 1 s, 2 s, 4 s... A step that a crash interrupted
        runs again: what it does outside must bear that, or be held by a ledger.

        Raises:
            StepFailed: after the last attempt.
        """
        ...

    async def progress(self, done: int, total: int, note: str = "") -> None:
        """Tells how far the job is; seen in `JobStatus.progress`. Written at most four times a second."""
        ...


Run = Callable[[JobContext, dict[str, Any]], Awaitable[dict[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Job:
    """A kind of job.

    `run(context, payload)` gets the payload that was enqueued; a scheduled run gets `{"scheduled_at": ISO time}`.
    """

    name: str
    queue: str
    run: Run


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """A queue. One process runs at most `worker_concurrency` of its jobs at a time, all workers together `everywhere`.

    A process sees a job that itself enqueued at once, one of another process after at most `polling_interval_s`.
    """

    name: str
    worker_concurrency: int
    polling_interval_s: float = 0.2
    everywhere: int | None = None

    def __post_init__(self) -> None:
        if self.worker_concurrency < 1 or self.polling_interval_s <= 0:
            raise ConfigError(f"Queue '{self.name}' needs a concurrency of at least 1 and a polling interval above 0.")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Runs `job` (a name) at each time of `cron` (five fields, or six with seconds first), in UTC, once over
    all workers. Times that pass while no worker runs are not made up for."""

    name: str
    cron: str
    job: str
