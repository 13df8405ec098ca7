"""Runs from their start to their end, on real jobs and rows, with agents that the test plays."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from app.storage.db import Database
from tests.support.treatments import Bench, bench


@pytest.fixture
async def work(db: Database) -> AsyncIterator[Bench]:
    async with bench(db, f"sqlite+aiosqlite:///{db.writer.url.database}") as opened:
        await opened.catalogue()
        yield opened


async def test_every_customer_has_one_result_and_some_are_held_back(work: Bench) -> None:
    await work.customers(450)
    run_id = await work.start(control_share=0.2)
    run = await work.reaches(run_id, "done")
    results = await work.results(run_id)
    assert len({result.customer_id for result in results}) == len(results) == 450
    states = Counter(result.state for result in results)
    assert states.keys() == {"proposed", "control"}
    assert 50 < states["control"] < 130
    asked = [one for part in work.agents.asked for one in part]
    assert len(asked) == states["proposed"]
    assert not set(asked) & {result.customer_id for result in results if result.state == "control"}
    assert (run.total, run.finished, run.chunks, run.chunks_open) == (450, 450, 5, 0)
    assert work.agents.allocated == [run_id]
