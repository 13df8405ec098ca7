"""A worker that dies, by SIGKILL, at a boundary of a job's steps that the job's payload names.

The job `faulty` looks, sends (a write through the ledger of effects, by a tool that is not idempotent), closes. The
outside world is a file in the folder: one line for each thing that was sent.
"""

import asyncio
import logging
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from app.agent.breaker import Breakers
from app.agent.models import EffectState
from app.agent.tools import ToolExecutor, ToolPolicies
from app.agent.tools.base import Effect, Tool, ToolCallPlan, ToolContext, ToolRegistry
from app.agent.tools.ledger import Claim, EffectLedger, Want
from app.clock import system_clock
from app.governance.audit import Audit
from app.jobs.engine import Jobs
from app.jobs.port import Job, JobContext, QueueSpec
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry.metrics import Metrics

BOUNDARIES = (
    "taken",
    "look.done",
    "look.recorded",
    "claim.before",
    "claim.after",
    "effect.done",
    "receipt.done",
    "send.recorded",
    "close.done",
    "close.recorded",
)
"""`done`: the work of a step is done and not yet on record. Between `claim.after` and `receipt.done` nobody can know
from outside whether the thing was sent."""
QUEUE = QueueSpec("faulty", worker_concurrency=6, polling_interval_s=0.1)
TENANT = "faults"
TOOL = "send_once"
SEND_S = 0.2
MOST_S = 0.05


class Sent(BaseModel):
    """What is sent."""

    thing: str


class Fuse:
    """Kills this process at one boundary of a job, the first time that any process gets there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deadly: dict[str, str | None] = {}

    def arm(self, job_id: str, boundary: str | None) -> None:
        self._deadly[job_id] = boundary

    def reach(self, job_id: str, boundary: str) -> None:
        if self._deadly.get(job_id) != boundary:
            return
        try:
            mark = os.open(self._folder / f"{job_id}.killed", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return
        os.write(mark, str(time.time()).encode())
        os.kill(os.getpid(), signal.SIGKILL)


class WatchedLedger(EffectLedger):
    """The real one, with boundaries before and after what it writes."""

    def __init__(self, db: Database, fuse: Fuse) -> None:
        super().__init__(db, system_clock)
        self._fuse = fuse

    async def claim(self, want: Want) -> Claim:
        self._fuse.reach(want.key, "claim.before")
        claim = await super().claim(want)
        self._fuse.reach(want.key, "claim.after")
        return claim

    async def finish(self, claim: Claim, state: EffectState, *, receipt: Any = None, error: str = "") -> None:
        await super().finish(claim, state, receipt=receipt, error=error)
        self._fuse.reach(claim.key, "receipt.done")


class Work:
    """The job `faulty`, with `{"die_at": boundary or null}`; its result is how its sending ended."""

    def __init__(self, folder: Path, fuse: Fuse, tools: ToolExecutor) -> None:
        self._outside = folder / "outside"
        self._fuse = fuse
        self._tools = tools
        tools.registry.add([Tool(TOOL, "Sends.", Sent, self.send, Effect.WRITE, timeout_s=SEND_S, attempts=1)])

    async def send(self, context: ToolContext, sent: Sent) -> dict[str, str]:
        with self._outside.open("a") as file:
            file.write(f"{sent.thing}\n")
        self._fuse.reach(context.key, "effect.done")
        return {"sent": sent.thing}

    async def run(self, context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        job_id = context.job_id
        self._fuse.arm(job_id, payload["die_at"])
        self._fuse.reach(job_id, "taken")
        await context.step("look", self._wait, job_id, "look")
        self._fuse.reach(job_id, "look.recorded")
        state = await context.step("send", self._send, job_id)
        self._fuse.reach(job_id, "send.recorded")
        await context.step("close", self._wait, job_id, "close")
        self._fuse.reach(job_id, "close.recorded")
        return {"state": state}

    async def _wait(self, job_id: str, step: str) -> None:
        # Each job at a place of its own when its neighbour dies.
        await asyncio.sleep(random.Random(job_id + step).uniform(0, MOST_S))
        self._fuse.reach(job_id, f"{step}.done")

    async def _send(self, job_id: str) -> str:
        sender = Principal(TENANT, "worker", Role.AGENT)
        plan = ToolCallPlan(TOOL, {"thing": job_id}, job_id)
        (outcome,) = await self._tools.execute(sender, job_id, [plan])
        return outcome.state.value


def executor_of_tools(db: Database, metrics: Metrics, ledger: EffectLedger | None = None) -> ToolExecutor:
    audit = Audit(system_clock, metrics)
    policies = ToolPolicies(db, system_clock, audit)
    registry = ToolRegistry([])
    return ToolExecutor(db, system_clock, registry, policies, Breakers(metrics), audit, metrics=metrics, ledger=ledger)


async def _work(url: str, executor: str, folder: Path, dead_after_s: float) -> None:
    db, metrics, fuse = Database(url), Metrics(CollectorRegistry()), Fuse(folder)
    work = Work(folder, fuse, executor_of_tools(db, metrics, WatchedLedger(db, fuse)))
    jobs = Jobs(url, metrics=metrics, executor_id=executor, dead_after_s=dead_after_s, pool_size=4)
    jobs.register([Job("faulty", QUEUE.name, work.run)], [QUEUE])
    await jobs.start(worker=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await jobs.stop(0)
    await db.close()


def work(url: str, executor: str, folder: Path, dead_after_s: float) -> None:
    """One worker process, until SIGTERM or its death. Deaths are what is wanted: no warning of them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(_work(url, executor, folder, dead_after_s))
