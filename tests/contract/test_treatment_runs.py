"""Runs whose worker is killed, embedded and on servers: another one finishes them, and nobody is decided twice."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.packs.treatments.models import RunState
from app.storage.db import Database
from tests.contract.conftest import Places
from tests.support.processes import Child
from tests.support.treatments import Bench, bench

CHILD = "tests.support.treatments_child"
CUSTOMERS = 950


@pytest.fixture
async def front(database: Database, places: Places) -> AsyncIterator[Bench]:
    """A process that only starts runs."""
    async with bench(database, places.front, executor="front", worker=False) as opened:
        await opened.catalogue()
        await opened.customers(CUSTOMERS)
        yield opened


async def test_another_worker_finishes_the_run_of_one_that_was_killed(front: Bench, places: Places) -> None:
    embedded = front.db.dialect == "sqlite"
    with Child(CHILD, places.worker, "embedded" if embedded else "a", 3) as first:
        await asyncio.to_thread(first.wait_for_line, "ready")
        run_id = await front.start(control_share=0.1)
        await asyncio.to_thread(first.wait_for_line, "held")
        await asyncio.to_thread(first.wait_for_line, "held")
        held = await front.run(run_id)
        assert (held.state, held.finished, held.chunks_open) == (RunState.RUNNING, 300, 2)
        if embedded:
            first.kill()
        with Child(CHILD, places.worker, "embedded" if embedded else "b", -1) as second:
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
