"""SIGKILL of a worker on the embedded database: nothing is lost, nothing that had finished is done again."""

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from app.jobs.port import JobState
from tests.support.jobs import enqueue, new_jobs, open_database, reaches
from tests.support.jobs_child import QUEUE, Work
from tests.support.processes import Child, wait_until

JOBS = 120


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trellis.db"


async def enqueue_all(url: str, log: Path) -> None:
    database = await open_database(url)
    jobs = new_jobs(url)
    jobs.register(Work(log, "front").jobs(), [QUEUE])
    await jobs.migrate()
    await jobs.start(worker=False)
    for number in range(JOBS):
        await enqueue(database, jobs, "two_steps", f"j{number}")
    await jobs.stop(0)
    await database.close()


async def all_done(url: str, log: Path) -> None:
    jobs = new_jobs(url)
    jobs.register(Work(log, "front").jobs(), [QUEUE])
    await jobs.start(worker=False)
    for number in range(JOBS):
        await reaches(jobs, f"j{number}", JobState.DONE)
    await jobs.stop(0)


def recorded(file: Path) -> Counter[str]:
    """The steps that are on record as finished, as `<job id> <step>`."""
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT workflow_uuid, function_name FROM operation_outputs").fetchall()
    return Counter(f"{job_id} {step}" for job_id, step in rows)


def performed(log: Path) -> list[str]:
    """What the steps did, in order, in the same form."""
    return [line.rsplit(" ", 1)[0] for line in log.read_text().splitlines()] if log.exists() else []


def work_and_kill(url: str, file: Path, log: Path) -> tuple[int, set[str]]:
    """Lets a worker do about forty steps: how many were ever performed, and which were recorded, when it died."""
    before = len(performed(log))
    with Child("tests.support.jobs_child", url, "embedded", 30, log) as worker:
        worker.wait_for_line("ready")
        wait_until(lambda: len(performed(log)) >= before + 40, "forty steps are done")
        worker.kill()
    return len(performed(log)), set(recorded(file))


async def test_a_killed_worker_goes_on_where_it_was(file: Path, tmp_path: Path) -> None:
    url, log = f"sqlite+aiosqlite:///{file}", tmp_path / "log"
    await enqueue_all(url, log)
    deaths = [work_and_kill(url, file, log) for _ in range(3)]
    with Child("tests.support.jobs_child", url, "embedded", 30, log) as worker:
        worker.wait_for_line("ready")
        await all_done(url, log)
    every_step = {f"j{number} {step}" for number in range(JOBS) for step in ("first", "second")}
    assert recorded(file) == Counter(every_step)
    assert set(performed(log)) == every_step
    for performed_by_then, recorded_by_then in deaths:
        assert 0 < len(recorded_by_then) < len(every_step)
        assert not recorded_by_then & set(performed(log)[performed_by_then:])
    # A kill interrupts no more steps than the queue has slots.
    assert len(performed(log)) <= len(every_step) + len(deaths) * QUEUE.worker_concurrency


async def test_a_second_worker_on_the_embedded_database_is_refused(file: Path, tmp_path: Path) -> None:
    url, log = f"sqlite+aiosqlite:///{file}", tmp_path / "log"
    database = await open_database(url)
    await database.close()
    with Child("tests.support.jobs_child", url, "embedded", 30, log) as first:
        first.wait_for_line("ready")
        with Child("tests.support.jobs_child", url, "embedded", 30, log) as second:
            _, errors = second.process.communicate(timeout=30)
            assert second.process.returncode == 1
            assert errors.strip().startswith("Another worker already runs on this database")
        first.kill()
        with Child("tests.support.jobs_child", url, "embedded", 30, log) as third:
            third.wait_for_line("ready")
