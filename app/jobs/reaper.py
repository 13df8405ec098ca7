"""On PostgreSQL: every worker shows that it lives, and hands the jobs of dead ones over.

The engine recovers the jobs of its own executor id at start; nobody recovers those of a pod that never comes back.
"""

import threading
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import Engine, delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ProgrammingError

from app.errors import ConfigError
from app.jobs.models import JobWorker
from app.jobs.store import SCHEMA

_DEAD = text(
    f"SELECT DISTINCT executor_id FROM {SCHEMA}.workflow_status "  # noqa: S608 - a constant
    "WHERE status = 'PENDING' AND application_version = :version AND executor_id IS NOT NULL AND executor_id NOT IN "
    "(SELECT executor_id FROM job_workers WHERE seen_at > now() - make_interval(secs => :limit_s))"
)
_FORGOTTEN = text("DELETE FROM job_workers WHERE seen_at < now() - make_interval(secs => :kept_s)")
_EVERY_S = 5.0
_KEPT_S = 86_400.0
_log = structlog.get_logger(__name__)


class Reaper(threading.Thread):
    """A thread of its own, so that a blocked event loop does not make a living worker look dead.

    A worker that was silent for `limit_s` is taken for dead. If it was only frozen, it is fenced when it wakes (the
    engine refuses its writes), but the step that it was in has run twice. `recover` gets the dead executors' ids.
    """

    def __init__(
        self, engine: Engine, executor_id: str, version: str, limit_s: float, recover: Callable[[Sequence[str]], None]
    ) -> None:
        super().__init__(name="jobs-reaper", daemon=True)
        self._engine = engine
        self._executor_id = executor_id
        self._version = version
        self._limit_s = limit_s
        self._recover = recover
        self._stop_event = threading.Event()

    def sign_on(self) -> None:
        """The first beat, before any job is taken. Raises ConfigError where the app's migrations were not run."""
        try:
            self.beat()
            self._forget()
        except ProgrammingError as problem:
            raise ConfigError("The table 'job_workers' is missing: run the migrations first.") from problem

    def beat(self) -> None:
        row = insert(JobWorker).values(executor_id=self._executor_id, version=self._version, seen_at=func.now())
        with self._engine.begin() as connection:
            connection.execute(
                row.on_conflict_do_update(
                    index_elements=["executor_id"], set_={"seen_at": func.now(), "version": self._version}
                )
            )

    def reap(self) -> None:
        with self._engine.begin() as connection:
            found = connection.execute(_DEAD, {"version": self._version, "limit_s": self._limit_s})
            dead = [str(executor_id) for (executor_id,) in found]
        if dead:
            _log.warning("dead_workers_jobs_handed_over", executors=dead)
            self._recover(dead)

    def _forget(self) -> None:
        """Names of pods never come back: the list would only grow."""
        with self._engine.begin() as connection:
            connection.execute(_FORGOTTEN, {"kept_s": max(_KEPT_S, self._limit_s)})

    def run(self) -> None:
        while not self._stop_event.wait(min(_EVERY_S, self._limit_s / 3)):
            try:
                self.beat()
                self.reap()
            except Exception:
                _log.warning("worker_heartbeat_failed", exc_info=True)

    def leave(self) -> None:
        """Stops, and takes this worker off the list: what it left unfinished is handed over at once."""
        self._stop_event.set()
        self.join(timeout=10)
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(JobWorker).where(JobWorker.executor_id == self._executor_id))
        except Exception:
            _log.warning("worker_sign_off_failed", exc_info=True)
