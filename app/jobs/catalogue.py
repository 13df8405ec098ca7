"""The jobs, queues and schedules of one process, checked against each other."""

from collections.abc import Sequence

from app.errors import ConfigError
from app.jobs.port import Job, QueueSpec, Schedule


class Catalogue:
    """What was registered, by name. Every clash or dangling name is a ConfigError when it is added."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.queues: dict[str, QueueSpec] = {}
        self.schedules: dict[str, Schedule] = {}

    def add(self, jobs: Sequence[Job], queues: Sequence[QueueSpec], schedules: Sequence[Schedule]) -> None:
        """Queues first, so that one call may bring a queue and its jobs."""
        for queue in queues:
            self._add_queue(queue)
        for job in jobs:
            self._add_job(job)
        for schedule in schedules:
            self._add_schedule(schedule)

    def job(self, name: str) -> Job:
        """Raises ConfigError for a name that no pack registered."""
        try:
            return self.jobs[name]
        except KeyError:
            raise ConfigError(f"There is no job '{name}': register it before the jobs are started.") from None

    def _add_queue(self, queue: QueueSpec) -> None:
        if self.queues.setdefault(queue.name, queue) != queue:
            raise ConfigError(f"Queue '{queue.name}' is registered twice with different settings.")

    def _add_job(self, job: Job) -> None:
        if job.name in self.jobs:
            raise ConfigError(f"Job '{job.name}' is registered twice: names are shared by all packs.")
        if job.queue not in self.queues:
            raise ConfigError(f"Job '{job.name}' names the queue '{job.queue}', which nobody registered.")
        self.jobs[job.name] = job

    def _add_schedule(self, schedule: Schedule) -> None:
        if schedule.name in self.schedules:
            raise ConfigError(f"Schedule '{schedule.name}' is registered twice.")
        self.job(schedule.job)
        self.schedules[schedule.name] = schedule
