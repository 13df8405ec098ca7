"""A release's migration renames a column under the program that still serves: the revision is taken back."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Rollback, Standing
from runbooks.drill.stages.house import PACE, beside
from runbooks.drill.stages.service import Service, served
from runbooks.drill.stages.watched import watched
from tests.chaos.house import environment, furnish
from tests.chaos.leads import Senders, lost_and_doubled
from tests.chaos.load import Client, Load, failed, session
from tests.support.databases import OWNER, Addresses
from tests.support.postgres import PostgresServer, open_server
from tests.support.revisions import NewerProgram

RATE = 2.0
"""Leads a second."""
REVISION = "0007"
_RENAMES = (
    'op.alter_column("leads", "company", new_column_name="organisation")',
    'op.alter_column("leads", "organisation", new_column_name="company")',
)
"""In place, which decision 0029 forbids: the program that serves asks for the old name."""
_ADDS = (
    'op.add_column("leads", sa.Column("organisation", sa.String(200), nullable=True))',
    'op.drop_column("leads", "organisation")',
)
"""The same wish as it is to be made: beside, at first."""


@dataclass(kw_only=True)
class SchemaDowngrade(Standing):
    folder: Path
    server: PostgresServer
    database: Addresses
    service: Service
    senders: Senders

    async def break_it(self) -> None:
        """What a deployment does before its pods are replaced."""
        self._release(*_RENAMES)
        await self._migrate()

    async def mend(self) -> None:
        """The revision is written anew."""
        self._release(*_ADDS)

    async def lost(self) -> str:
        late = len(self.senders.sent - self.senders.acknowledged)
        await self.senders.resend()
        kept = await asyncio.to_thread(self._stored)
        lost, doubled = lost_and_doubled(self.senders.acknowledged, kept)
        assert (lost, doubled) == (0, 0), f"of {len(kept)} leads {lost} are lost and {doubled} are there twice"
        assert self.senders.sent == self.senders.acknowledged, "leads that were sent again were not taken"
        again = f"{late} were refused and sent again, {failed(self.senders.tries)} requests failed"
        return f"nothing of {len(self.senders.sent)} leads ({again})"

    def _release(self, up: str, down: str) -> None:
        NewerProgram(self.folder).add(REVISION, up, down)

    async def _migrate(self) -> None:
        newer = [sys.executable, "-m", "runbooks.drill.newer", str(self.folder), "migrate"]
        process = await asyncio.create_subprocess_exec(
            *newer, env={**self.environment}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _out, told = await process.communicate()
        assert process.returncode == 0, f"the release's migration failed: {told.decode()[-500:]}"

    def _stored(self) -> list[str]:
        with self.server.connect(self.database.name) as connection:
            rows = connection.execute("SELECT external_id FROM leads WHERE external_id LIKE 'chaos-%'").fetchall()
        return [row[0] for row in rows]


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[SchemaDowngrade]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        server = await asyncio.to_thread(stack.enter_context, open_server())
        database = await asyncio.to_thread(server.new_database, True)
        house = await furnish(
            folder / "house", {"database_url": database.app_url, "database_owner_url": database.owner_url}
        )
        service, kubectl = await enter(served(house.home, environment(house.settings)))
        prometheus = await enter(
            watched(folder / "watch", PhaseName.SMALL, {"trellis-api": [service.server.port]}, PACE)
        )
        senders = Senders(Client(await enter(session()), service.server.address, house.key))
        await enter(Load(senders.send, RATE))
        program = folder / "release"
        program.mkdir()
        yield SchemaDowngrade(
            folder=program,
            server=server,
            database=database,
            service=service,
            senders=senders,
            environment={**_terminal(server, database), **service.settings, **beside(service.server)},
            programs={"kubectl": kubectl, "trellis": (sys.executable, "-m", "runbooks.drill.newer", str(program))},
            prometheus=prometheus,
            pace=PACE,
        )


def _terminal(server: PostgresServer, database: Addresses) -> Mapping[str, str]:
    """What `psql` needs, and the page's words."""
    where = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": OWNER, "PGDATABASE": database.name}
    return {**where, "TABLE": "leads", "COLUMN": "organisation"}


REHEARSAL = Rehearsal(
    page="procedures/schema-downgrade",
    alert="AvailabilityBudgetBurn",
    needs=("postgres", "prometheus", "alertmanager"),
    stage=stage,
    ci=True,
    rollback=Rollback.AFTER,
)
