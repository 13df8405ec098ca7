"""Jobs under test: a database with its tables, and waiting for a state."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry

import app.jobs.models  # noqa: F401 - a table of the schema
from app.jobs.engine import Jobs
from app.jobs.port import JobState, JobStatus
from app.storage.base import Base
from app.storage.db import Database
from app.telemetry.metrics import Metrics

TIMEOUT_S = 30.0


def new_jobs(url: str, **settings: Any) -> Jobs:
    return Jobs(url, metrics=Metrics(CollectorRegistry()), **settings)


async def open_database(url: str) -> Database:
    database = Database(url)
    async with database.writer.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return database


async def enqueue(db: Database, jobs: Jobs, name: str, job_id: str, payload: Any = None, **options: Any) -> None:
    async with db.operator_transaction() as session:
        await jobs.enqueue(session, name, payload or {}, job_id=job_id, **options)


async def until(holds: Callable[[], Awaitable[bool] | bool], what: str) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(what)


async def reaches(jobs: Jobs, job_id: str, state: JobState) -> JobStatus:
    """The status once the job is in the state; fails at once where it ended in another."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            status = await jobs.status(job_id)
            if status is not None and status.state is state:
                return status
            ended = status is not None and status.state in (JobState.DONE, JobState.FAILED)
            assert not ended, f"{status} instead of {state}"
            await asyncio.sleep(0.01)
