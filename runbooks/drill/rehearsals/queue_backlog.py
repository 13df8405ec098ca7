"""Every worker is gone while leads come in; more of them are started, and the backlog drains."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage, Standing
from runbooks.drill.stages.fleet import Deployment, Fleet, ports, running_fleet
from runbooks.drill.stages.watched import watched
from tests.chaos.faults.postgres import acknowledged_leads, doubled_decisions, undecided
from tests.chaos.house import environment, furnish
from tests.chaos.leads import Senders, lost_and_doubled
from tests.chaos.load import Client, Load, failed, session
from tests.support.postgres import USER, PostgresServer, open_server
from tests.support.server import ApiProcess, WorkerProcess

RATE: Final = 1.0
WORKERS: Final = 1
PACE: Final = 20.0
"""Slower than elsewhere: at sixty times the pace a process is away after three seconds without an answer."""
PLACES: Final = 3
_PHASE: Final = PhaseName.SMALL


@dataclass(kw_only=True)
class Backlog(Standing):
    fleet: Fleet
    primary: PostgresServer
    database: str
    senders: Senders
    load: Load

    async def break_it(self) -> None:
        await self.fleet.kill("worker")

    async def lost(self) -> str:
        left = await undecided(self.primary, self.database)
        names = await asyncio.to_thread(acknowledged_leads, self.primary, self.database)
        lost, doubled = lost_and_doubled(self.senders.acknowledged, names)
        doubled += await asyncio.to_thread(doubled_decisions, self.primary, self.database)
        tries = self.senders.tries
        assert not lost, f"{lost} of {len(names)} leads are gone"
        assert not doubled, f"{doubled} leads or decisions are there twice"
        assert not left, f"{left} leads are not decided"
        return f"nothing of {len(names)} leads (each decided once; {failed(tries)} of {len(tries)} requests failed)"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        primary = stack.enter_context(open_server())
        found = await asyncio.to_thread(primary.new_database, True)
        owned = {"database_url": found.app_url, "database_owner_url": found.owner_url}
        house = await furnish(folder / "home", owned)
        chosen = environment({**house.settings, "log_level": "WARNING"})
        api = Deployment(ApiProcess, folder / "api", lambda: chosen, ports(1), 1)
        worker = Deployment(WorkerProcess, folder / "worker", lambda: chosen, ports(PLACES), WORKERS)
        fleet, kubectl = await enter(running_fleet({"api-blue": api, "worker": worker}))
        jobs = {"trellis-api": api.ports, "trellis-worker": worker.ports}
        prometheus = await enter(watched(folder, _PHASE, jobs, PACE, scrape_s=2.0))
        senders = Senders(Client(await enter(session()), fleet.address("api-blue"), house.key))
        load = await enter(Load(senders.send, RATE))
        yield Backlog(
            environment={
                "PHASE": _PHASE.value,
                "PGHOST": "127.0.0.1",
                "PGPORT": str(primary.port),
                "PGUSER": USER,
                "PGDATABASE": found.name,
            },
            programs={"kubectl": kubectl},
            prometheus=prometheus,
            pace=PACE,
            fleet=fleet,
            primary=primary,
            database=found.name,
            senders=senders,
            load=load,
        )


REHEARSAL = Rehearsal(
    page="procedures/queue-backlog",
    alert="MetricsAbsent",
    needs=("postgres", "prometheus", "alertmanager"),
    stage=stage,
    rollback=Rollback.AFTER,
    wait_s=400.0,
)
