"""Durable jobs across stops, restarts and dead workers, embedded and on servers."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ConfigError
from app.jobs.engine import Jobs
from app.jobs.port import Job, JobContext, JobState, QueueSpec
from app.jobs.worker import MAX_STARTS
from app.settings import load_settings
from app.storage.db import Database
from tests.contract.conftest import Places
from tests.support.examples import examples
from tests.support.jobs import TIMEOUT_S, enqueue, new_jobs, open_database, reaches, until
from tests.support.jobs_child import QUEUE as CHILD_QUEUE
from tests.support.jobs_child import Work
from tests.support.processes import Child
from tests.support.servers import Backends, serving

QUEUE = QueueSpec("work", worker_concurrency=4)
DEAD_AFTER_S = 3.0
GRACE_S = 1.0


@pytest.fixture
def url(places: Places) -> str:
    """A worker's."""
    return places.worker


class Held:
    """A job that stays in its second step until the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.calls: list[str] = []
        self.left = False

    async def first(self) -> int:
        self.calls.append("first")
        return 7

    async def second(self) -> None:
        self.calls.append("second")
        self.waiting.set()
        try:
            await self.gate.wait()
        finally:
            self.left = True

    async def run(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        number = await context.step("first", self.first)
        await context.step("second", self.second)
        return {"number": number}

    def jobs(self, url: str) -> Jobs:
        jobs = new_jobs(url)
        jobs.register([Job("held", QUEUE.name, self.run)], [QUEUE])
        return jobs


async def test_stopping_waits_for_what_runs(url: str, database: Database) -> None:
    held = Held()
    jobs = held.jobs(url)
    await jobs.start(worker=True)
    await enqueue(database, jobs, "held", "h")
    await held.waiting.wait()
    asyncio.get_running_loop().call_later(0.2, held.gate.set)
    await jobs.stop(20)
    await jobs.start(worker=False)
    assert (status := await jobs.status("h")) is not None
    assert status.state is JobState.DONE
    await jobs.stop(0)


async def test_what_outlives_the_grace_goes_on_after_the_next_start_without_its_finished_steps(
    url: str, database: Database
) -> None:
    held = Held()
    jobs = held.jobs(url)
    await jobs.start(worker=True)
    await enqueue(database, jobs, "held", "h")
    await held.waiting.wait()
    await jobs.stop(0)
    assert held.left  # nothing of it runs on
    held.gate.set()
    await jobs.start(worker=False)
    assert (status := await jobs.status("h")) is not None
    assert status.state is JobState.QUEUED  # handed over: any other worker's next look finds it
    await jobs.stop(0)
    await jobs.start(worker=True)
    assert (await reaches(jobs, "h", JobState.DONE)).result == {"number": 7}
    await jobs.stop(5)
    assert held.calls == ["first", "second", "second"]


async def test_a_job_that_is_handed_over_at_every_stop_is_never_given_up(url: str, database: Database) -> None:
    held = Held()
    jobs = held.jobs(url)
    for _ in range(MAX_STARTS + 3):
        await jobs.start(worker=True)
        if not held.calls:
            await enqueue(database, jobs, "held", "h")
        async with asyncio.timeout(TIMEOUT_S):
            await held.waiting.wait()
        held.waiting.clear()
        await jobs.stop(0)
    held.gate.set()
    await jobs.start(worker=True)
    await reaches(jobs, "h", JobState.DONE)
    await jobs.stop(5)


async def test_who_takes_no_more_ends_what_runs_and_leaves_what_waits(url: str, database: Database) -> None:
    held = Held()
    jobs = held.jobs(url)
    await jobs.start(worker=True)
    await enqueue(database, jobs, "held", "h")
    await held.waiting.wait()
    await jobs.take_no_more()
    assert jobs.alive
    await enqueue(database, jobs, "held", "late")
    held.gate.set()
    await reaches(jobs, "h", JobState.DONE)
    assert (late := await jobs.status("late")) is not None
    assert late.state is JobState.QUEUED
    await jobs.stop(5)
    assert held.calls == ["first", "second"]


async def test_an_error_that_stopping_causes_is_no_failure_of_the_job(url: str, database: Database) -> None:
    held = Held()

    async def translated() -> None:
        try:
            await held.second()
        except asyncio.CancelledError:
            raise ValueError("the connection was closed") from None

    async def in_a_step(context: JobContext, _payload: dict[str, Any]) -> None:
        await context.step("second", translated)

    async def in_the_body(_context: JobContext, _payload: dict[str, Any]) -> None:
        await translated()

    jobs = new_jobs(url)
    jobs.register([Job("step", QUEUE.name, in_a_step), Job("body", QUEUE.name, in_the_body)], [QUEUE])
    await jobs.start(worker=True)
    await enqueue(database, jobs, "step", "s")
    await enqueue(database, jobs, "body", "b")
    await until(lambda: len(held.calls) == 2, "both are held")
    await jobs.stop(0)
    held.gate.set()
    await jobs.start(worker=True)
    await reaches(jobs, "s", JobState.DONE)
    await reaches(jobs, "b", JobState.DONE)
    await jobs.stop(5)
    assert held.calls == ["second"] * 4


async def test_jobs_that_wait_while_nothing_runs_are_taken_up_at_the_start(url: str, database: Database) -> None:
    held = Held()
    held.gate.set()
    jobs = held.jobs(url)
    await jobs.migrate()
    await jobs.start(worker=False)
    for number in range(10):
        await enqueue(database, jobs, "held", f"h{number}")
    await jobs.stop(0)
    await jobs.start(worker=True)
    for number in range(10):
        await reaches(jobs, f"h{number}", JobState.DONE)
    await jobs.stop(5)
    assert sorted(held.calls) == ["first"] * 10 + ["second"] * 10


async def test_the_loop_has_threads_of_its_own_again_after_a_stop(url: str, database: Database) -> None:
    held = Held()
    held.gate.set()
    jobs = held.jobs(url)
    for number in range(3):
        await jobs.start(worker=True)
        await enqueue(database, jobs, "held", f"h{number}")
        await reaches(jobs, f"h{number}", JobState.DONE)
        await jobs.stop(5)
        assert await asyncio.to_thread(lambda: number) == number  # noqa: B023 - called at once


async def test_no_connection_leaves_the_machine_nor_is_any_made_on_sqlite(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[Any] = []
    connect = socket.socket.connect

    def noted(sock: socket.socket, address: Any) -> None:
        reached.append(address)
        connect(sock, address)

    monkeypatch.setattr(socket.socket, "connect", noted)
    held = Held()
    held.gate.set()
    jobs = held.jobs(url)
    await jobs.start(worker=True)
    await enqueue(database, jobs, "held", "h")
    await reaches(jobs, "h", JobState.DONE)
    await jobs.stop(5)
    assert {address[0] for address in reached} <= ({"127.0.0.1"} if database.dialect == "postgresql" else set())


attempts = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=examples(8), deadline=None)
@given(attempts=attempts)
def test_exactly_the_committed_ids_run_and_each_once(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[tuple[int, bool]]
) -> None:
    ran: list[str] = []

    async def run(context: JobContext, _payload: dict[str, Any]) -> None:
        ran.append(context.job_id)

    async def try_all() -> None:
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('jobs') / 'trellis.db'}"
        database = await open_database(url)
        jobs = new_jobs(url)
        jobs.register([Job("note", QUEUE.name, run)], [QUEUE])
        await jobs.start(worker=True)
        for number, commit in attempts:
            async with database.operator_transaction() as session:
                await jobs.enqueue(session, "note", {}, job_id=f"j{number}")
                if not commit:
                    await session.rollback()
        for number in {number for number, commit in attempts if commit}:
            await reaches(jobs, f"j{number}", JobState.DONE)
        await jobs.stop(5)
        await database.close()

    asyncio.run(try_all())
    assert sorted(ran) == sorted({f"j{number}" for number, commit in attempts if commit})


class Fleet:
    """Worker processes on one PostgreSQL database, and what they wrote."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._log = folder / "log"
        self._hold = folder / "log.hold"

    def worker(self, name: str, dead_after_s: float, grace_s: float = 0) -> Child:
        return Child("tests.support.jobs_child", self._url, name, dead_after_s, self._log, grace_s)

    def hold(self) -> None:
        self._hold.touch()

    def let_go(self) -> None:
        self._hold.unlink()

    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
async def front(server_settings: Backends, tmp_path: Path) -> AsyncIterator[tuple[Jobs, Database, Fleet]]:
    """A process that only enqueues, behind PgBouncer, and the workers to come, past it."""
    where = load_settings({}, **server_settings)
    jobs = new_jobs(where.sqlalchemy_url, executor_id="front")
    jobs.register(Work(tmp_path / "log", "front").jobs(), [CHILD_QUEUE])
    async with serving(where) as database:
        await jobs.start(worker=False)
        yield jobs, database, Fleet(where.direct_database_url, tmp_path)
        await jobs.stop(0)


async def test_a_worker_without_the_apps_tables_does_not_start(fresh_postgres_url: str) -> None:
    with pytest.raises(ConfigError, match="job_workers"):
        await new_jobs(fresh_postgres_url).start(worker=True)


async def test_a_living_worker_takes_over_the_job_of_one_that_was_killed(front: tuple[Jobs, Database, Fleet]) -> None:
    jobs, database, fleet = front
    fleet.hold()
    with fleet.worker("a", DEAD_AFTER_S) as first:
        await asyncio.to_thread(first.wait_for_line, "ready")
        await enqueue(database, jobs, "held", "h")
        await until(lambda: "h second a" in fleet.lines(), "a is in the second step")
        with fleet.worker("b", DEAD_AFTER_S) as second:
            await asyncio.to_thread(second.wait_for_line, "ready")
            await asyncio.sleep(DEAD_AFTER_S * 1.5)
            assert fleet.lines() == ["h first a", "h second a"]  # a lives: nobody takes its job
            first.kill()
            fleet.let_go()
            assert (await reaches(jobs, "h", JobState.DONE)).result == {"by": "b"}
            second.terminate()
    assert fleet.lines() == ["h first a", "h second a", "h second b"]


async def test_a_worker_that_signs_off_hands_its_job_over_before_it_counts_as_dead(
    front: tuple[Jobs, Database, Fleet],
) -> None:
    jobs, database, fleet = front
    fleet.hold()
    with fleet.worker("a", 3600) as first, fleet.worker("b", 3600) as second:
        await asyncio.to_thread(first.wait_for_line, "ready")
        await asyncio.to_thread(second.wait_for_line, "ready")
        await enqueue(database, jobs, "held", "h")
        await until(lambda: len(fleet.lines()) == 2, "one is in the second step")
        leaving, staying = (first, "b") if fleet.lines()[1].endswith(" a") else (second, "a")
        leaving.terminate()
        fleet.let_go()
        assert (await reaches(jobs, "h", JobState.DONE)).result == {"by": staying}


async def test_a_worker_that_was_frozen_is_fenced_when_it_wakes_and_works_on(
    front: tuple[Jobs, Database, Fleet],
) -> None:
    jobs, database, fleet = front
    fleet.hold()
    with fleet.worker("a", DEAD_AFTER_S) as frozen:
        await asyncio.to_thread(frozen.wait_for_line, "ready")
        await enqueue(database, jobs, "held", "h")
        await until(lambda: "h second a" in fleet.lines(), "a is in the second step")
        frozen.process.send_signal(signal.SIGSTOP)
        with fleet.worker("b", DEAD_AFTER_S) as second:
            fleet.let_go()
            assert (await reaches(jobs, "h", JobState.DONE)).result == {"by": "b"}
            second.terminate()
        # It wakes in the step that it was in, ends it, and may not write it: what b wrote stands.
        frozen.process.send_signal(signal.SIGCONT)
        await enqueue(database, jobs, "two_steps", "next")
        assert (await reaches(jobs, "next", JobState.DONE)).result == {"by": "a"}
        assert (status := await jobs.status("h")) is not None
        assert status.result == {"by": "b"}
        frozen.terminate()
    assert [line for line in fleet.lines() if line.startswith("h ")] == ["h first a", "h second a", "h second b"]


async def test_a_worker_process_takes_no_more_waits_its_grace_and_hands_over_the_rest(
    front: tuple[Jobs, Database, Fleet],
) -> None:
    jobs, database, fleet = front
    fleet.hold()
    with fleet.worker("a", 3600, GRACE_S) as leaving:
        await asyncio.to_thread(leaving.wait_for_line, "ready")
        await enqueue(database, jobs, "held", "h")
        await until(lambda: "h second a" in fleet.lines(), "a is in the second step")
        asked = time.monotonic()
        leaving.process.terminate()
        await asyncio.sleep(GRACE_S / 2)
        await enqueue(database, jobs, "two_steps", "late")
        assert await asyncio.to_thread(leaving.process.wait, 30) == 0
        assert time.monotonic() - asked > GRACE_S
    # Nobody has to be taken for dead first: both wait for whoever looks next.
    assert set((await jobs.states(["h", "late"])).values()) == {JobState.QUEUED}
    fleet.let_go()
    with fleet.worker("b", 3600) as second:
        for job_id in ("h", "late"):
            assert (await reaches(jobs, job_id, JobState.DONE)).result == {"by": "b"}
        second.terminate()
