"""The process's worker: starts, feeds and stops the engine, of which a process holds exactly one."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog
from dbos import DBOS, ClientScheduleInput, DBOSPortableJSONSerializer, error
from dbos import _dbos as engine_module
from dbos._event_loop import BackgroundEventLoop
from dbos._queue import queue_worker_thread

from app.errors import ConfigError
from app.jobs.bell import Bell, Slots
from app.jobs.catalogue import Catalogue
from app.jobs.orphans import Orphans
from app.jobs.port import Schedule
from app.jobs.reaper import Reaper
from app.jobs.runner import Runner
from app.jobs.store import APP_NAME, SCHEMA, OneWorkerLock, Store
from app.telemetry.errors import Reporter
from app.telemetry.metrics import Metrics

# A job whose process dies this many times while it runs is given up as failed: it is likely what kills it.
MAX_STARTS = 10
ENDING_S = 2.0
"""What a job that is cancelled has to clean up."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is. `version` names the shape of the jobs' steps: a worker takes up only its own version's
    unfinished jobs. `limit_s`: silence after which a worker counts as dead (PostgreSQL)."""

    executor_id: str
    version: str
    limit_s: float


class _OneLoop(BackgroundEventLoop):
    """Runs every job on the loop that the worker was started on.

    The engine's own rule is to take a second loop, in a thread, while this one stands still: there a job would use
    connections that belong to this one, and two threads on one connection end the process. Here it waits instead.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._only = loop

    def target_loop(self) -> asyncio.AbstractEventLoop:
        return self._only


class Worker:
    """Runs the catalogue's jobs on the event loop that starts it. Used once: start, then stop."""

    def __init__(
        self, store: Store, catalogue: Catalogue, identity: Identity, metrics: Metrics, reporter: Reporter
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._identity = identity
        self._bells = {name: Bell() for name in catalogue.queues}
        self._sizes = {name: queue.worker_concurrency for name, queue in catalogue.queues.items()}
        self._runner = Runner(store.client, Slots(self._sizes, self._bells), metrics, reporter)
        self._threads: list[threading.Thread] = []
        self._orphans = Orphans(
            store, identity.executor_id, identity.version, lambda: self._runner.running, self._ring_all
        )
        self._looking: asyncio.Task[None] | None = None
        self._lock = OneWorkerLock(store.engine.url) if store.embedded else None
        self._reaper = None if store.embedded else self._new_reaper()

    def _new_reaper(self) -> Reaper:
        who = self._identity
        return Reaper(self._store.engine, who.executor_id, who.version, who.limit_s, _recover)

    @property
    def alive(self) -> bool:
        """Whether every queue's thread runs."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def ring(self, queue: str) -> None:
        """Something was enqueued: look now."""
        self._bells[queue].ring()

    def _ring_all(self) -> None:
        for bell in self._bells.values():
            bell.ring()

    async def start(self) -> None:
        """Raises ConfigError where this process or, on SQLite, another one already runs a worker."""
        # dbos 3.4 has no call that tells whether its one instance exists.
        if engine_module._dbos_global_instance is not None:
            raise ConfigError("A worker already runs in this process: stop it before another is started.")
        if self._lock is not None:
            self._lock.take()
        loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._launch, loop)
        except BaseException:
            await self._shut_down(loop)
            raise
        self._looking = asyncio.create_task(self._orphans.keep_looking(), name="orphans")

    def _launch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._reaper is not None:
            self._reaper.sign_on()
        dbos = DBOS(config=self._config())
        DBOS.listen_queues([])
        dbos._background_event_loop = _OneLoop(loop)
        for job in self._catalogue.jobs.values():
            DBOS.workflow(name=job.name, max_recovery_attempts=MAX_STARTS)(self._runner.workflow(job))
        DBOS.launch()
        self._apply_schedules()
        self._start_queues(dbos)
        if self._reaper is not None:
            self._reaper.start()

    def _config(self) -> Any:
        return {
            "name": APP_NAME,
            "system_database_engine": self._store.engine,
            "dbos_system_schema": SCHEMA,
            "serializer": DBOSPortableJSONSerializer(),
            "executor_id": self._identity.executor_id,
            "application_version": self._identity.version,
            # While it runs, the loop's `to_thread` uses these threads too: enough for both, but not without bound.
            "max_executor_threads": 32 + 2 * sum(self._sizes.values()),
            "enable_otlp": False,
            "log_level": "WARNING",
            # Trellis uses no messages, events or streams: nothing to listen for.
            "use_listen_notify": False,
            # The thread that would listen only sleeps, and stopping waits for it to wake.
            "notification_listener_polling_interval_sec": 0.1,
        }

    def _apply_schedules(self) -> None:
        client, wanted = self._store.client, self._catalogue.schedules
        for known in client.list_schedules():
            if known["schedule_name"] not in wanted:
                client.delete_schedule(known["schedule_name"])
        try:
            client.apply_schedules([self._schedule(schedule) for schedule in wanted.values()])
        except error.DBOSException as problem:
            raise ConfigError(f"A schedule is not valid: {problem}.") from problem

    def _schedule(self, schedule: Schedule) -> ClientScheduleInput:
        return {
            "schedule_name": schedule.name,
            "workflow_name": schedule.job,
            "schedule": schedule.cron,
            "queue_name": self._catalogue.job(schedule.job).queue,
        }

    def _start_queues(self, dbos: DBOS) -> None:
        for name, spec in self._catalogue.queues.items():
            queue = DBOS.register_queue(
                name,
                worker_concurrency=spec.worker_concurrency,
                global_concurrency=spec.everywhere,
                polling_interval_sec=spec.polling_interval_s,
                on_conflict="always_update",
            )
            # Its settings are this process's own: reading them again before every poll would be a query for nothing.
            queue.database_backed_queue = False
            thread = threading.Thread(
                target=queue_worker_thread, args=(self._bells[name], dbos, queue), name=f"jobs-{name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
            self._bells[name].ring()

    async def take_no_more(self) -> None:
        """What runs goes on; what waits is other workers', or the next start's."""
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.to_thread(self._stop_queues)

    async def stop(self, grace_s: float) -> None:
        """Takes no more jobs, waits up to `grace_s` for the running ones, hands the rest over at once."""
        await self.take_no_more()
        running = set(self._runner.tasks)
        if running:
            await asyncio.wait(running, timeout=grace_s)
        left = [task for task in running if not task.done()]
        for task in left:
            task.cancel()
        if left:
            _log.warning("jobs_handed_over", count=len(left))
            await asyncio.wait(left, timeout=ENDING_S)
            await asyncio.to_thread(self._hand_over)
        await self._shut_down(asyncio.get_running_loop())

    def _hand_over(self) -> None:
        """Back into their queues, where another worker's next look finds them: no silence has to pass first."""
        try:
            self._store.forgive(self._identity.executor_id)
            _recover([self._identity.executor_id])
        except Exception:
            # They are taken for a dead worker's then, or go on after the next start.
            _log.warning("jobs_hand_over_failed", exc_info=True)

    def _stop_queues(self) -> None:
        for bell in self._bells.values():
            bell.set()
        for thread in self._threads:
            thread.join(timeout=10)

    async def _shut_down(self, loop: asyncio.AbstractEventLoop) -> None:
        # The engine made its own threads the loop's default ones, and is about to end them.
        loop.set_default_executor(ThreadPoolExecutor())
        await asyncio.to_thread(self._tear_down)
        if self._lock is not None:
            self._lock.release()

    def _tear_down(self) -> None:
        self._stop_queues()
        DBOS.destroy(destroy_registry=True)
        if self._reaper is not None and self._reaper.is_alive():
            self._reaper.leave()


def _recover(executor_ids: Sequence[str]) -> None:
    # Private in dbos 3.4, and the only way to name other executors; held by tests/contract/test_jobs.py.
    DBOS._recover_pending_workflows(list(executor_ids))
