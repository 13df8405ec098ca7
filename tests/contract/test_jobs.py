"""Durable jobs behave the same embedded and on servers: enqueueing, running, failing, cancelling, scheduling."""

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from sqlalchemy import text

from app.errors import ConfigError, Conflict, NotFound
from app.jobs.engine import PURGE_JOB, Jobs
from app.jobs.port import Job, JobContext, JobState, Progress, QueueSpec, Schedule, StepFailed
from app.storage.db import Database
from tests.contract.conftest import Places
from tests.support.jobs import enqueue, new_jobs, open_database, reaches, until

QUEUE = QueueSpec("work", worker_concurrency=3)


@pytest.fixture
def url(places: Places) -> str:
    """A worker's."""
    return places.worker


@pytest.fixture(params=["sqlite", "postgres"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database without a table."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


class Recorder:
    """The jobs of these tests, and what they did."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.calls: list[str] = []
        self.payloads: list[dict[str, Any]] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.traces: list[int] = []
        self.broken = False
        self.running = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, name: str) -> str:
        self.calls.append(name)
        return name

    async def fragile(self) -> str:
        self.calls.append("fragile")
        if self.broken:
            raise ValueError("the vendor is away")
        return "mended"

    async def plain(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        self.ran.append(context.job_id)
        self.payloads.append(payload)
        self.loops.add(asyncio.get_running_loop())
        self.traces.append(trace.get_current_span().get_span_context().trace_id)
        return {"of": context.job_id}

    async def three_steps(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        one = await context.step("one", self.call, "one")
        two = await context.step("two", self.fragile)
        three = await context.step("three", self.call, "three")
        return {"steps": [one, two, three]}

    async def patient(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        await context.step("flaky", self.once_flaky, attempts=2)
        return {}

    async def once_flaky(self) -> None:
        self.calls.append("flaky")
        if len(self.calls) == 1:
            raise ValueError("not yet")

    async def gated(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        await context.progress(1, 4, "waiting")
        await context.step("wait", self.wait)
        await context.progress(4, 4)
        return {}

    async def wait(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1

    async def odd(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        await context.step("odd", self.not_json)
        return {}

    async def not_json(self) -> object:
        return {"a": object()}

    def jobs(self) -> list[Job]:
        runs = [self.plain, self.three_steps, self.patient, self.gated, self.odd]
        return [Job(run.__name__, QUEUE.name, run) for run in runs]


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def jobs(url: str, database: Database, recorder: Recorder) -> AsyncIterator[Jobs]:
    """A worker with the recorder's jobs."""
    started = new_jobs(url)
    started.register(recorder.jobs(), [QUEUE])
    await started.start(worker=True)
    yield started
    recorder.gate.set()
    await started.stop(5)


async def test_a_committed_job_runs_and_a_rolled_back_one_leaves_nothing(
    jobs: Jobs, database: Database, recorder: Recorder
) -> None:
    async with database.operator_transaction() as session:
        await jobs.enqueue(session, "plain", {}, job_id="never")
        await session.rollback()
    await enqueue(database, jobs, "plain", "kept", {"n": 1})
    status = await reaches(jobs, "kept", JobState.DONE)
    assert status.result == {"of": "kept"}
    assert recorder.ran == ["kept"]
    assert recorder.payloads == [{"n": 1}]
    assert await jobs.status("never") is None


async def test_a_job_does_not_start_before_the_commit(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    async with database.operator_transaction() as session:
        await jobs.enqueue(session, "plain", {}, job_id="early")
        await asyncio.sleep(0.3)
        assert recorder.ran == []
    await reaches(jobs, "early", JobState.DONE)


async def test_the_same_job_id_is_one_execution(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    async with database.operator_transaction() as session:
        await jobs.enqueue(session, "plain", {}, job_id="same")
        await jobs.enqueue(session, "plain", {}, job_id="same")
    await reaches(jobs, "same", JobState.DONE)
    await enqueue(database, jobs, "plain", "same")
    await enqueue(database, jobs, "plain", "after")
    await reaches(jobs, "after", JobState.DONE)
    assert recorder.ran == ["same", "after"]


async def test_a_job_id_of_another_kind_is_a_conflict(jobs: Jobs, database: Database) -> None:
    await enqueue(database, jobs, "plain", "taken")
    with pytest.raises(Conflict, match="'taken'"):
        await enqueue(database, jobs, "gated", "taken")


async def test_an_unknown_job_is_refused_by_name(jobs: Jobs, database: Database) -> None:
    with pytest.raises(ConfigError, match="no job 'ghost'"):
        await enqueue(database, jobs, "ghost", "x")


async def test_jobs_run_on_the_loop_that_started_them(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    await enqueue(database, jobs, "plain", "here")
    await reaches(jobs, "here", JobState.DONE)
    assert recorder.loops == {asyncio.get_running_loop()}


async def test_a_failed_job_says_why_and_a_retry_keeps_its_finished_steps(
    jobs: Jobs, database: Database, recorder: Recorder
) -> None:
    recorder.broken = True
    await enqueue(database, jobs, "three_steps", "fails")
    status = await reaches(jobs, "fails", JobState.FAILED)
    assert status.error == "Step 'two' failed: ValueError: the vendor is away"
    recorder.broken = False
    assert (await jobs.retry("fails")).job_id == "fails"
    status = await reaches(jobs, "fails", JobState.DONE)
    assert status.result == {"steps": ["one", "mended", "three"]}
    assert status.error is None
    assert recorder.calls == ["one", "fragile", "fragile", "three"]


async def test_a_step_is_tried_again_as_often_as_it_asks(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    await enqueue(database, jobs, "patient", "flaky")
    await reaches(jobs, "flaky", JobState.DONE)
    assert recorder.calls == ["flaky", "flaky"]


async def test_a_step_whose_result_is_not_json_fails_by_name(jobs: Jobs, database: Database) -> None:
    await enqueue(database, jobs, "odd", "odd")
    status = await reaches(jobs, "odd", JobState.FAILED)
    assert status.error is not None
    assert "Step 'odd' returned something that is not JSON" in status.error


async def test_a_waiting_job_that_is_cancelled_never_runs(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    recorder.gate.clear()
    for number in range(QUEUE.worker_concurrency):
        await enqueue(database, jobs, "gated", f"g{number}")
    await until(lambda: recorder.running == QUEUE.worker_concurrency, "all slots are taken")
    await enqueue(database, jobs, "plain", "dropped")
    await enqueue(database, jobs, "plain", "behind", priority=1)
    assert (await jobs.cancel("dropped")).state is JobState.CANCELLED
    recorder.gate.set()
    await reaches(jobs, "behind", JobState.DONE)
    assert recorder.ran == ["behind"]


async def test_a_running_job_that_is_cancelled_stops_in_its_step_and_can_be_retried(
    jobs: Jobs, database: Database, recorder: Recorder
) -> None:
    recorder.gate.clear()
    await enqueue(database, jobs, "gated", "held")
    await until(lambda: recorder.running == 1, "the job runs")
    assert (await jobs.cancel("held")).state is JobState.CANCELLED
    await until(lambda: recorder.running == 0, "the step was told")
    cancelled = jobs._metrics.jobs_finished.labels(task="gated", outcome="cancelled")
    await until(lambda: cancelled._value.get() == 1, "it was counted")
    recorder.gate.set()
    await jobs.retry("held")
    await reaches(jobs, "held", JobState.DONE)


async def test_only_failed_and_cancelled_jobs_are_retried(jobs: Jobs, database: Database) -> None:
    await enqueue(database, jobs, "plain", "fine")
    await reaches(jobs, "fine", JobState.DONE)
    with pytest.raises(Conflict, match="is done"):
        await jobs.retry("fine")
    assert (await jobs.cancel("fine")).state is JobState.DONE
    with pytest.raises(NotFound, match="'ghost'"):
        await jobs.retry("ghost")
    with pytest.raises(NotFound, match="'ghost'"):
        await jobs.cancel("ghost")


async def test_progress_is_seen_while_the_job_runs(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    recorder.gate.clear()
    await enqueue(database, jobs, "gated", "slow")
    await until(lambda: recorder.running == 1, "the job runs")
    status = await jobs.status("slow")
    assert status is not None
    assert (status.state, status.progress) == (JobState.RUNNING, Progress(1, 4, "waiting"))
    recorder.gate.set()
    assert (await reaches(jobs, "slow", JobState.DONE)).progress == Progress(4, 4)


async def test_a_queue_never_runs_more_than_its_concurrency_and_waits_in_order_of_priority(
    jobs: Jobs, database: Database, recorder: Recorder
) -> None:
    recorder.gate.clear()
    for number in range(5):
        await enqueue(database, jobs, "gated", f"g{number}")
    await until(lambda: recorder.running == QUEUE.worker_concurrency, "all slots are taken")
    await enqueue(database, jobs, "plain", "last", priority=9)
    await enqueue(database, jobs, "plain", "first", priority=1)
    await asyncio.sleep(0.5)
    queued, age_s = (await jobs.depth())[QUEUE.name]
    assert queued == 4
    assert 0.4 < age_s < 30
    recorder.gate.set()
    await reaches(jobs, "last", JobState.DONE)
    assert recorder.ran == ["first", "last"]
    assert recorder.most == QUEUE.worker_concurrency
    assert (await jobs.depth())[QUEUE.name] == (0, 0.0)


async def test_a_delayed_job_waits(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    await enqueue(database, jobs, "plain", "delayed", delay_s=0.3)
    await enqueue(database, jobs, "plain", "now")
    await reaches(jobs, "now", JobState.DONE)
    assert (status := await jobs.status("delayed")) is not None
    assert status.state is JobState.QUEUED
    await reaches(jobs, "delayed", JobState.DONE)
    assert recorder.ran == ["now", "delayed"]


async def test_a_schedule_runs_its_job_with_the_time(url: str, database: Database, recorder: Recorder) -> None:
    jobs = new_jobs(url)
    jobs.register(recorder.jobs(), [QUEUE], [Schedule("every-second", "* * * * * *", "plain")])
    await jobs.start(worker=True)
    await until(lambda: bool(recorder.payloads), "it ran")
    await jobs.stop(5)
    time = datetime.fromisoformat(recorder.payloads[0]["scheduled_at"])
    assert abs((datetime.now(UTC) - time).total_seconds()) < 60
    assert len(set(recorder.ran)) == len(recorder.ran)


async def test_a_schedule_that_is_gone_from_the_code_is_deleted(
    url: str, database: Database, recorder: Recorder
) -> None:
    before = new_jobs(url)
    before.register(recorder.jobs(), [QUEUE], [Schedule("gone", "0 0 1 1 *", "plain")])
    await before.start(worker=True)
    assert {known["schedule_name"] for known in await before._client.list_schedules_async()} == {PURGE_JOB, "gone"}
    await before.stop(0)
    after = new_jobs(url)
    await after.start(worker=True)
    assert {known["schedule_name"] for known in await after._client.list_schedules_async()} == {PURGE_JOB}
    await after.stop(0)


async def test_a_wrong_cron_expression_stops_the_start_and_leaves_the_process_fit_for_another(
    url: str, database: Database, recorder: Recorder
) -> None:
    wrong = new_jobs(url)
    wrong.register(recorder.jobs(), [QUEUE], [Schedule("bad", "every tuesday", "plain")])
    with pytest.raises(ConfigError, match="every tuesday"):
        await wrong.start(worker=True)
    right = new_jobs(url)
    await right.start(worker=True)
    await right.stop(0)


async def test_finished_jobs_are_purged_after_their_time_and_younger_ones_kept(
    url: str, database: Database, recorder: Recorder
) -> None:
    now = datetime.now(UTC)
    jobs = new_jobs(url, clock=lambda: now, keep=timedelta(days=30))
    jobs.register(recorder.jobs(), [QUEUE])
    await jobs.start(worker=True)
    await enqueue(database, jobs, "plain", "old")
    await reaches(jobs, "old", JobState.DONE)
    await enqueue(database, jobs, PURGE_JOB, "purge-1")
    assert (await reaches(jobs, "purge-1", JobState.DONE)).result == {"deleted": 0}
    now += timedelta(days=31)
    await enqueue(database, jobs, "plain", "waits", delay_s=3600)
    await enqueue(database, jobs, PURGE_JOB, "purge-2")
    assert (await reaches(jobs, "purge-2", JobState.DONE)).result == {"deleted": 2}
    assert await jobs.status("old") is None
    assert await jobs.status("waits") is not None
    await jobs.stop(5)


async def test_a_process_that_only_enqueues_runs_nothing_and_a_worker_takes_its_jobs(
    places: Places, database: Database, recorder: Recorder
) -> None:
    front = new_jobs(places.front, executor_id="front")
    front.register(Recorder().jobs(), [QUEUE])
    await front.migrate()
    await front.start(worker=False)
    await enqueue(database, front, "plain", "handed-over")
    await asyncio.sleep(0.2)
    assert (status := await front.status("handed-over")) is not None
    assert status.state is JobState.QUEUED
    back = new_jobs(places.worker, executor_id="back")
    back.register(recorder.jobs(), [QUEUE])
    await back.start(worker=True)
    await reaches(front, "handed-over", JobState.DONE)
    await enqueue(database, front, "plain", "polled")
    await reaches(front, "polled", JobState.DONE)
    assert recorder.ran == ["handed-over", "polled"]
    await front.stop(0)
    await back.stop(5)


async def test_without_its_tables_a_process_that_only_enqueues_does_not_start(bare_url: str) -> None:
    jobs = new_jobs(bare_url)
    with pytest.raises(ConfigError, match="run the migrations"):
        await jobs.start(worker=False)
    await jobs.migrate()
    await jobs.start(worker=False)
    assert jobs.alive
    await jobs.stop(0)
    assert not jobs.alive


async def test_a_second_worker_in_the_process_is_refused(jobs: Jobs, url: str) -> None:
    with pytest.raises(ConfigError, match="already runs in this process"):
        await new_jobs(url).start(worker=True)
    assert jobs.alive


async def test_a_job_that_its_process_never_survives_is_given_up(
    url: str, database: Database, recorder: Recorder
) -> None:
    jobs = new_jobs(url)
    jobs.register(recorder.jobs(), [QUEUE])
    await jobs.migrate()
    await jobs.start(worker=False)
    await enqueue(database, jobs, "plain", "poison")
    table = "workflow_status" if database.dialect == "sqlite" else "dbos.workflow_status"
    async with database.operator_transaction() as session:
        await session.execute(text(f"UPDATE {table} SET recovery_attempts = 11"))
    await jobs.stop(0)
    await jobs.start(worker=True)
    status = await reaches(jobs, "poison", JobState.FAILED)
    assert status.error is not None
    assert "Given up" in status.error
    assert recorder.ran == []
    await jobs.stop(5)


async def test_a_job_joins_the_trace_of_the_request_that_enqueued_it(
    jobs: Jobs, database: Database, recorder: Recorder
) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1)))
    with trace.use_span(span):
        await enqueue(database, jobs, "plain", "traced")
    await reaches(jobs, "traced", JobState.DONE)
    assert recorder.traces == [0xABC]


async def test_outcomes_are_counted(jobs: Jobs, database: Database, recorder: Recorder) -> None:
    recorder.broken = True
    await enqueue(database, jobs, "plain", "good")
    await enqueue(database, jobs, "three_steps", "bad")
    await reaches(jobs, "good", JobState.DONE)
    await reaches(jobs, "bad", JobState.FAILED)
    finished = jobs._metrics.jobs_finished
    assert finished.labels(task="plain", outcome="done")._value.get() == 1
    assert finished.labels(task="three_steps", outcome="failed")._value.get() == 1


async def test_a_step_failure_that_the_job_bears_is_the_same_when_it_is_replayed(
    url: str, database: Database, recorder: Recorder
) -> None:
    seen: list[str] = []

    async def bears(context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        try:
            await context.step("two", recorder.fragile)
        except StepFailed as failure:
            seen.append(failure.reason)
        await context.step("wait", recorder.wait)
        return {}

    recorder.broken = True
    recorder.gate.clear()
    jobs = new_jobs(url)
    jobs.register([Job("bears", QUEUE.name, bears)], [QUEUE])
    await jobs.start(worker=True)
    await enqueue(database, jobs, "bears", "b")
    await until(lambda: recorder.running == 1, "it waits")
    await jobs.stop(0)
    recorder.gate.set()
    await jobs.start(worker=True)
    await reaches(jobs, "b", JobState.DONE)
    await jobs.stop(5)
    assert seen == ["ValueError: the vendor is away"] * 2
    assert recorder.calls == ["fragile"]


async def test_a_commit_wakes_the_worker_and_a_backlog_keeps_it_awake(
    url: str, database: Database, recorder: Recorder
) -> None:
    """The queue polls once in an hour, so nothing but the wake-ups can start these jobs."""
    jobs = new_jobs(url)
    sleepy = QueueSpec("sleepy", worker_concurrency=2, polling_interval_s=3600)
    jobs.register([Job("plain", sleepy.name, recorder.plain)], [sleepy])
    await jobs.start(worker=True)
    async with database.operator_transaction() as session:
        for number in range(10):
            await jobs.enqueue(session, "plain", {}, job_id=f"j{number}")
        async with session.begin_nested():
            await jobs.enqueue(session, "plain", {}, job_id="nested")
    for job_id in [*(f"j{number}" for number in range(10)), "nested"]:
        await reaches(jobs, job_id, JobState.DONE)
    await jobs.stop(5)
    assert len(recorder.ran) == 11


async def test_jobs_of_an_erased_record_go_with_what_their_steps_said(
    jobs: Jobs, database: Database, recorder: Recorder
) -> None:
    recorder.broken = True
    recorder.gate.clear()
    ada, ben = {"lead_id": "lead_ada1"}, {"lead_id": "lead_ben1", "note": "lead_ada1 said"}
    await enqueue(database, jobs, "three_steps", "failed", ada)
    await enqueue(database, jobs, "plain", "other", ben)
    await enqueue(database, jobs, "gated", "running", ada)
    await reaches(jobs, "failed", JobState.FAILED)
    await reaches(jobs, "other", JobState.DONE)
    await until(lambda: recorder.running == 1, "the gated job runs")
    async with database.operator_transaction() as session:
        await jobs.enqueue(session, "plain", ada, job_id="later", delay_s=3600)
    assert await jobs.erase([]) == 0
    assert await jobs.erase(["lead_ada1", "lead_nobody"]) == 2
    assert [await jobs.status(job_id) for job_id in ("failed", "later")] == [None, None]
    assert "vendor is away" not in await steps_said(database)
    assert [await kept(database, name) for name in ("input", "output")] == [{"other", "running"}, {"other"}]
    assert [(await jobs.status(job_id)) is not None for job_id in ("other", "running")] == [True, True]
    recorder.gate.set()
    await reaches(jobs, "running", JobState.DONE)
    assert await jobs.erase(["lead_ada1"]) == 1
    assert await jobs.erase(["lead_ada1"]) == 0


async def kept(database: Database, what: str) -> set[str]:
    """The jobs whose input or output the engine still has."""
    schema = "" if database.dialect == "sqlite" else "dbos."
    async with database.operator_reading() as session:
        return set(await session.scalars(text(f"SELECT workflow_uuid FROM {schema}workflow_{what}")))


async def steps_said(database: Database) -> str:
    table = "operation_outputs" if database.dialect == "sqlite" else "dbos.operation_outputs"
    async with database.operator_reading() as session:
        return str((await session.execute(text(f"SELECT * FROM {table}"))).all())


def test_a_job_waits_for_the_loop_of_its_worker(bare_url: str) -> None:
    """Between two tests of a suite the loop stands still, and so it may in a program: no other loop takes the job."""
    ran = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def here(_context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        loops.append(asyncio.get_running_loop())
        ran.set()
        return {}

    async def begin() -> tuple[Database, Jobs]:
        db, jobs = await open_database(bare_url), new_jobs(bare_url)
        jobs.register([Job("here", QUEUE.name, here)], [QUEUE])
        await jobs.start(worker=True)
        await enqueue(db, jobs, "here", "job_1")
        return db, jobs

    async def end(db: Database, jobs: Jobs) -> None:
        await reaches(jobs, "job_1", JobState.DONE)
        await jobs.stop(5)
        await db.close()

    with asyncio.Runner() as runner:
        db, jobs = runner.run(begin())
        # Long enough for a queue's thread to take the job up: it looks every 0.2 s, and was rung for.
        before_the_loop_goes_on = ran.wait(1)
        runner.run(end(db, jobs))
        assert (before_the_loop_goes_on, loops) == (False, [runner.get_loop()])
