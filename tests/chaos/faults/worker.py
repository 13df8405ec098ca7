"""A worker process is killed at a boundary of a job's steps, again and again, each time by another seed."""

import asyncio
import statistics
from collections.abc import Sequence

from tests.chaos.fault import Promise, Seen, Stage
from tests.support.faulty_worker import BOUNDARIES
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import open_server
from tests.support.worker_faults import Fleet, Outcome, open_fleet

SLOWEST_S = 30.0
TOLD_EVERY = 20
# At a time: a death is mostly waiting for the silence after which others take over.
LANES = 8


class WorkerKilled:
    """Three worker processes on PostgreSQL; who enqueues is behind PgBouncer."""

    name = "worker"
    title = f"A worker is killed at each of {len(BOUNDARIES)} boundaries of a job's steps"
    needs = ("postgres", "pgbouncer")
    promise = Promise(
        "no job is lost, nothing is sent twice; a sending of unknown fate is reported to a person; others take the job "
        "over (2 s of silence here, 30 s in production)",
        failed=0,
        recovery_s=SLOWEST_S,
    )

    async def run(self, stage: Stage) -> Seen:
        primary = stage.stack.enter_context(open_server())
        found = await asyncio.to_thread(primary.new_database, True)
        pooler = stage.stack.enter_context(running_pgbouncer(primary.port))
        async with open_fleet(found.app_url, pooler.url(found.name)) as fleet:
            outcomes = await self._deaths(stage, fleet)
        return self._seen(outcomes)

    async def _deaths(self, stage: Stage, fleet: Fleet) -> list[Outcome]:
        gate, outcomes = asyncio.Semaphore(LANES), list[Outcome]()

        async def one(seed: int) -> None:
            async with gate:
                outcomes.append(await fleet.run(seed))
            if len(outcomes) % TOLD_EVERY == 0:
                stage.tell(f"{len(outcomes)} of {stage.seeds} deaths")

        await asyncio.gather(*map(one, range(stage.seeds)))
        return outcomes

    def _seen(self, outcomes: Sequence[Outcome]) -> Seen:
        times = [outcome.recovery_s for outcome in outcomes if outcome.recovery_s is not None]
        return Seen(
            tried=sum(outcome.tried for outcome in outcomes),
            failed=sum(outcome.failed for outcome in outcomes),
            lost=sum(outcome.lost for outcome in outcomes),
            doubled=sum(outcome.doubled for outcome in outcomes),
            recovery_s=max(times, default=None),
            figures={
                "deaths": len(times),
                "boundaries": len({outcome.boundary for outcome in outcomes}),
                "parked": sum(outcome.parked for outcome in outcomes),
                "median_recovery_s": statistics.median(times),
            },
        )
