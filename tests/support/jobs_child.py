"""A worker process for tests: `python -m tests.support.jobs_child URL EXECUTOR DEAD_AFTER_S LOG [GRACE_S]`.

Each step appends `<job id> <step> <executor>` to LOG. The job `two_steps` does two; the job `held` stays in its
second step while the file `LOG.hold` exists. Prints `ready` once it works; ends on SIGTERM, after
GRACE_S seconds at most (0 where not given).
"""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from app.errors import TrellisError
from app.jobs.engine import Jobs
from app.jobs.port import Job, JobContext, QueueSpec
from app.telemetry.metrics import Metrics

QUEUE = QueueSpec("work", worker_concurrency=4, polling_interval_s=0.1)


class Work:
    def __init__(self, log: Path, executor: str) -> None:
        self._log = log
        self._hold = log.with_name(f"{log.name}.hold")
        self._executor = executor

    async def write(self, job_id: str, step: str) -> None:
        with self._log.open("a") as file:
            file.write(f"{job_id} {step} {self._executor}\n")

    async def slow(self, job_id: str, step: str) -> None:
        await self.write(job_id, step)
        await asyncio.sleep(0.02)

    async def hold(self, job_id: str) -> None:
        await self.write(job_id, "second")
        while self._hold.exists():
            await asyncio.sleep(0.02)

    async def two_steps(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        await context.step("first", self.slow, context.job_id, "first")
        await context.step("second", self.slow, context.job_id, "second")
        return {"by": self._executor}

    async def held(self, context: JobContext, _payload: dict[str, Any]) -> dict[str, Any]:
        await context.step("first", self.write, context.job_id, "first")
        await context.step("second", self.hold, context.job_id)
        return {"by": self._executor}

    def jobs(self) -> list[Job]:
        return [Job("two_steps", QUEUE.name, self.two_steps), Job("held", QUEUE.name, self.held)]


async def main(url: str, executor: str, dead_after_s: float, log: Path, grace_s: float = 0) -> None:
    jobs = Jobs(url, metrics=Metrics(CollectorRegistry()), executor_id=executor, dead_after_s=dead_after_s)
    jobs.register(Work(log, executor).jobs(), [QUEUE])
    await jobs.start(worker=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    await jobs.stop(grace_s)


if __name__ == "__main__":
    try:
        grace_s = float(sys.argv[5]) if len(sys.argv) > 5 else 0
        asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), Path(sys.argv[4]), grace_s))
    except TrellisError as error:
        sys.exit(error.detail)
