"""Runs whose worker is killed, on SQLite and on PostgreSQL: another one finishes them, and nobody is decided twice."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.packs.treatments.models import RunState
from tests.support.jobs import open_database
from tests.support.processes import Child
from tests.support.treatments import Bench, bench

CHILD = "tests.support.treatments_child"
CUSTOMERS = 950


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}"
    return str(request.getfixturevalue("fresh_postgres_url"))


@pytest.fixture
async def front(url: str) -> AsyncIterator[Bench]:
    """A process that only starts runs."""
    db = await open_database(url)
    async with bench(db, url, executor="front", worker=False) as opened:
        await opened.catalogue()
        await opened.customers(CUSTOMERS)
        yield opened
    await db.close()


async def test_another_worker_finishes_the_run_of_one_that_was_killed(front: Bench, url: str) -> None:
    embedded = front.db.dialect == "sqlite"
    with Child(CHILD, url, "embedded" if embedded else "a", 3) as first:
        await asyncio.to_thread(first.wait_for_line, "ready")
        run_id = await front.start(control_share=0.1)
        await asyncio.to_thread(first.wait_for_line, "held")
        await asyncio.to_thread(first.wait_for_line, "held")
        held = await front.run(run_id)
        assert (held.state, held.finished, held.chunks_open) == (RunState.RUNNING, 300, 2)
        if embedded:
            first.kill()
        with Child(CHILD, url, "embedded" if embedded else "b", -1) as second:
            await asyncio.to_thread(second.wait_for_line, "ready")
            if not embedded:
                first.kill()
            await front.reaches(run_id, "done")
            second.terminate()
    run, results = await front.run(run_id), await front.results(run_id)
    assert len({result.customer_id for result in results}) == len(results) == CUSTOMERS
    assert (run.finished, run.total, run.chunks, run.chunks_open) == (CUSTOMERS, CUSTOMERS, 10, 0)
    assert {result.state for result in results} == {"proposed", "control"}
    assert run.model_calls == 10  # a chunk that was under way is counted when it is written down, once
