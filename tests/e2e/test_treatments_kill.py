"""A run whose workers are killed again and again, wherever they are: every customer is decided once."""

import asyncio
import random
from pathlib import Path

from tests.support.jobs import open_database
from tests.support.processes import Child
from tests.support.treatments import bench

CHILD = "tests.support.treatments_child"
CUSTOMERS, KILLS = 6_000, 4


async def test_workers_killed_at_random_lose_nobody_and_decide_nobody_twice(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'trellis.db'}"
    draw = random.Random(5)
    db = await open_database(url)
    async with bench(db, url, executor="front", worker=False) as front:
        await front.catalogue()
        await front.customers(CUSTOMERS)
        run_id = await front.start(control_share=0.1)
        seen = [0]
        for _ in range(KILLS):
            with Child(CHILD, url, "embedded", -1) as worker:
                await asyncio.to_thread(worker.wait_for_line, "ready")
                while (done := (await front.run(run_id)).finished) <= seen[-1]:
                    await asyncio.sleep(0.02)
                await asyncio.sleep(draw.uniform(0, 0.25))
                worker.kill()
            seen.append(done)
        stopped = await front.run(run_id)
        assert (stopped.state, stopped.finished < CUSTOMERS) == ("running", True)
        with Child(CHILD, url, "embedded", -1) as worker:
            await asyncio.to_thread(worker.wait_for_line, "ready")
            await front.reaches(run_id, "done")
            worker.terminate()
        run, results = await front.run(run_id), await front.results(run_id)
    await db.close()
    assert len({result.customer_id for result in results}) == len(results) == CUSTOMERS
    assert (run.finished, run.total, run.chunks, run.chunks_open) == (CUSTOMERS, CUSTOMERS, CUSTOMERS // 100, 0)
    assert run.model_calls == CUSTOMERS // 100  # each chunk is counted when it is written down, once
