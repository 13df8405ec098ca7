"""PostgreSQL's primary is killed behind PgBouncer; its standby is promoted and the pooler pointed to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Stage, Standing
from runbooks.drill.stages.aws import Aws, running_aws
from runbooks.drill.stages.watched import postgres_exporter, watched
from tests.chaos.faults.postgres import acknowledged_leads, address, doubled_decisions, undecided
from tests.chaos.house import furnish, serving
from tests.chaos.leads import Senders, lost_and_doubled
from tests.chaos.load import Client, Load, codes, failed, session
from tests.support.databases import APP, OWNER
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import USER, PostgresServer, Replica, open_server

RATE: Final = 1.0
PACE: Final = 20.0
PATIENCE_S: Final = 600.0
AGAIN_S: Final = 10.0
"""How long a lead is sent again, and how long apart: whoever sends waits until a person has mended it."""
EXPECTED: Final = frozenset({"unavailable", "in-flight"})
"""What the app says while no database takes writes."""
_PHASE: Final = PhaseName.MEDIUM


@dataclass(kw_only=True)
class Failover(Standing):
    primary: PostgresServer
    standby: Replica
    database: str
    senders: Senders
    load: Load
    killed: float = 0.0

    async def break_it(self) -> None:
        self.killed = time.monotonic()
        await asyncio.to_thread(self.primary.kill)

    async def lost(self) -> str:
        left = await undecided(self.standby, self.database)
        names = await asyncio.to_thread(acknowledged_leads, self.standby, self.database)
        lost, doubled = lost_and_doubled(self.senders.acknowledged, names)
        doubled += await asyncio.to_thread(doubled_decisions, self.standby, self.database)
        odd = [each for each in self.senders.tries if not each.ok and each.code not in EXPECTED]
        acknowledged = len(self.senders.acknowledged)
        assert not lost, f"{lost} of {acknowledged} leads that were taken are gone"
        assert not doubled, f"{doubled} leads or decisions are there twice"
        assert not odd, f"other errors than 503: {codes(odd)}"
        assert not left, f"{left} leads are not decided"
        refused = failed(self.senders.tries)
        return f"nothing of {acknowledged} leads that were taken ({refused} tries answered 503 and sent again)"


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_context
        aws = enter(running_aws(folder / "aws"))
        primary = enter(open_server())
        found = await asyncio.to_thread(primary.new_database, True)
        standby = enter(primary.replica(synchronous=True))
        pooler = enter(running_pgbouncer(primary.port))
        ports = (primary.port, standby.port)
        settings = {
            "database_url": pooler.url(found.name),
            "database_direct_url": address(found.name, APP, *ports),
            "database_owner_url": address(found.name, OWNER, *ports),
            "database_pooled": True,
        }
        house = await furnish(folder / "home", settings)
        server = await stack.enter_async_context(serving(house))
        exporters = [enter(postgres_exporter(folder / node.folder.name, node)) for node in (primary, standby)]
        jobs = {"postgres": exporters, "trellis-api": [server.port]}
        prometheus = await stack.enter_async_context(watched(folder, _PHASE, jobs, PACE, scrape_s=2.0))
        client = Client(await stack.enter_async_context(session()), server.address, house.key)
        senders = Senders(client, patience_s=PATIENCE_S, again_s=AGAIN_S)
        load = await stack.enter_async_context(Load(senders.send, RATE))
        await asyncio.to_thread(in_aws, aws)
        where = {"PRIMARY": primary, "STANDBY": standby}
        yield Failover(
            environment={
                **aws.environment,
                **{name: f"postgresql://{USER}@127.0.0.1:{node.port}/{found.name}" for name, node in where.items()},
                "PHASE": _PHASE.value,
                "STANDBY_PORT": str(standby.port),
                "STANDBY_HOST": "127.0.0.1",
                "POOLER": f"postgresql://{USER}@127.0.0.1:{pooler.port}/pgbouncer",
                "SERVING": f"postgresql://{APP}@127.0.0.1:{pooler.port}/{found.name}",
                "PGBOUNCER_INI": str(pooler.folder / "config.ini"),
                "PGCONNECT_TIMEOUT": "5",
            },
            prometheus=prometheus,
            pace=PACE,
            primary=primary,
            standby=standby,
            database=found.name,
            senders=senders,
            load=load,
        )


def in_aws(aws: Aws) -> None:
    """The primary and its replica as AWS would list them."""
    name, kind = f"trellis-{_PHASE.value}", ("--db-instance-class", "db.m7g.large")
    login = ("--master-username", OWNER, "--master-user-password", "of-moto-1")
    what = ("--db-instance-identifier", f"{name}-primary", "--engine", "postgres", "--multi-az")
    aws.call("rds", "create-db-instance", *what, *kind, *login, "--allocated-storage", "50")
    of = ("--db-instance-identifier", f"{name}-replica-0", "--source-db-instance-identifier", f"{name}-primary")
    aws.call("rds", "create-db-instance-read-replica", *of)


REHEARSAL = Rehearsal(
    page="procedures/postgres-failover",
    alert="PostgresDown",
    needs=("postgres", "pgbouncer", "postgres_exporter", "prometheus", "alertmanager"),
    stage=stage,
)
