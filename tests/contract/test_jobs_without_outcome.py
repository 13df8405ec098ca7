"""A job whose database was away while it ran has no outcome: it is put back, and ends when the database is there."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import DBAPIError

from app.jobs import orphans
from app.jobs.engine import Jobs
from app.jobs.port import Job, JobContext, JobState, QueueSpec
from app.jobs.worker import MAX_STARTS
from app.storage.db import Database
from tests.contract.conftest import Places
from tests.support.jobs import enqueue, new_jobs, reaches

QUEUE = QueueSpec("work", worker_concurrency=2, polling_interval_s=0.1)


class Full(Exception):
    """As the drivers say that there is no room."""

    sqlstate = "53100"


class Work:
    """A job of two steps, whose second finds the database full so many times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls: list[str] = []

    async def run(self, context: JobContext, _payload: dict[str, object]) -> dict[str, object]:
        await context.step("first", self._call, "first")
        return {"said": await context.step("second", self._call, "second")}

    async def _call(self, name: str) -> str:
        self.calls.append(name)
        if name == "second" and self.calls.count(name) <= self.times:
            raise DBAPIError("INSERT", None, Full())
        return name


@pytest.fixture
def work() -> Work:
    return Work(times=MAX_STARTS + 1)


@pytest.fixture
async def jobs(places: Places, work: Work, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Jobs]:
    monkeypatch.setattr(orphans.Orphans.__init__, "__defaults__", (0.05,))
    jobs = new_jobs(places.worker)
    jobs.register([Job("work", QUEUE.name, work.run)], [QUEUE])
    await jobs.start(worker=True)
    yield jobs
    await jobs.stop(0)


async def test_it_is_done_later_with_the_steps_that_it_had_and_no_start_is_counted(
    jobs: Jobs, work: Work, database: Database
) -> None:
    await enqueue(database, jobs, "work", "one")
    status = await reaches(jobs, "one", JobState.DONE)
    assert status.result == {"said": "second"}
    assert work.calls == ["first", *["second"] * (MAX_STARTS + 2)]
