"""Jobs, queues and schedules that do not fit together are refused by name."""

from typing import Any

import pytest

from app.errors import ConfigError
from app.jobs.catalogue import Catalogue
from app.jobs.engine import PURGE_JOB
from app.jobs.port import Job, JobContext, QueueSpec, Schedule
from tests.support.jobs import new_jobs

QUEUE = QueueSpec("work", worker_concurrency=2)


async def run(_context: JobContext, _payload: dict[str, Any]) -> None:
    """Nothing to do."""


JOB = Job("tidy", "work", run)


def test_a_job_is_found_by_its_name() -> None:
    catalogue = Catalogue()
    catalogue.add([JOB], [QUEUE], [Schedule("nightly", "0 3 * * *", "tidy")])
    assert catalogue.job("tidy") is JOB
    assert set(catalogue.schedules) == {"nightly"}


def test_two_packs_may_bring_the_same_queue_but_not_with_different_settings() -> None:
    catalogue = Catalogue()
    catalogue.add([], [QUEUE], [])
    catalogue.add([JOB], [QUEUE], [])
    with pytest.raises(ConfigError, match="Queue 'work' is registered twice"):
        catalogue.add([], [QueueSpec("work", worker_concurrency=3)], [])


@pytest.mark.parametrize(
    ("jobs", "schedules", "sentence"),
    [
        ([JOB, JOB], [], "Job 'tidy' is registered twice"),
        ([Job("lost", "nowhere", run)], [], "Job 'lost' names the queue 'nowhere'"),
        ([JOB], [Schedule("s", "* * * * *", "ghost")], "There is no job 'ghost'"),
        ([JOB], [Schedule("s", "* * * * *", "tidy")] * 2, "Schedule 's' is registered twice"),
    ],
)
def test_a_clash_or_a_dangling_name_is_refused(jobs: list[Job], schedules: list[Schedule], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Catalogue().add(jobs, [QUEUE], schedules)


@pytest.mark.parametrize(("concurrency", "interval_s"), [(0, 0.2), (-1, 0.2), (1, 0.0)])
def test_a_queue_that_could_never_run_is_refused(concurrency: int, interval_s: float) -> None:
    with pytest.raises(ConfigError, match="Queue 'work' needs"):
        QueueSpec("work", worker_concurrency=concurrency, polling_interval_s=interval_s)


def test_the_engine_brings_its_own_purge() -> None:
    jobs = new_jobs("sqlite+aiosqlite:///never-opened.db")
    assert jobs._catalogue.job(PURGE_JOB).queue in jobs._catalogue.queues
    with pytest.raises(ConfigError, match=r"'jobs\.purge' is registered twice"):
        jobs.register([Job(PURGE_JOB, "work", run)], [QUEUE])


async def test_nothing_can_be_asked_before_the_start() -> None:
    jobs = new_jobs("sqlite+aiosqlite:///never-opened.db")
    assert not jobs.alive
    with pytest.raises(ConfigError, match="not started"):
        await jobs.status("x")
    await jobs.stop(0)


async def test_after_the_start_nothing_is_registered_and_nothing_started_again(tmp_path: Any) -> None:
    jobs = new_jobs(f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}")
    await jobs.migrate()
    await jobs.start(worker=False)
    with pytest.raises(ConfigError, match="before they are started"):
        jobs.register([JOB], [QUEUE])
    with pytest.raises(ConfigError, match="started already"):
        await jobs.start(worker=False)
    await jobs.stop(0)
