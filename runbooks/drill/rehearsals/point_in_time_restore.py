"""Rows are deleted by hand while the app writes on; they come back from the archive, by a server beside."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage, Standing
from runbooks.drill.stages.aws import Aws, running_aws
from runbooks.drill.stages.watched import postgres_exporter, watched
from tests.chaos.faults.postgres import acknowledged_leads
from tests.chaos.house import TENANT, furnish, serving
from tests.chaos.leads import Senders, lost_and_doubled
from tests.chaos.load import Client, Load, failed, session
from tests.support.databases import OWNER
from tests.support.postgres import USER, Node, PostgresServer, free_port, open_server, unprivileged, until

RATE: Final = 1.0
LEAST: Final = 10
"""Leads that are there, with their decisions, before the fault."""
WRITTEN_S: Final = 8.0
"""How long leads come in after the fault, before anybody looks."""
DELETE: Final = f"DELETE FROM leads WHERE tenant_id = '{TENANT}' AND status <> 'new'"  # noqa: S608 - our own names
TABLES: Final = ("leads", "lead_messages", "lead_events")
_PHASE: Final = PhaseName.SMALL


@dataclass(kw_only=True)
class Restoring(Standing):
    """`before`: every row of the leads' tables just before the fault, as text. `deleted`: leads that it took."""

    primary: PostgresServer
    database: str
    senders: Senders
    load: Load
    before: Mapping[str, frozenset[str]] = field(default_factory=dict)
    deleted: int = 0

    async def break_it(self) -> None:
        decided = f"SELECT count(*) >= {LEAST} FROM leads WHERE status <> 'new'"  # noqa: S608 - our own names
        await asyncio.to_thread(until, lambda: self.primary.scalar(decided, self.database), "no leads are decided")
        await asyncio.to_thread(self._delete)
        await asyncio.sleep(WRITTEN_S)

    def _delete(self) -> None:
        """Nothing of it is seen by the app before all of it is gone, as of a statement at a prompt."""
        with self.primary.connect(self.database) as connection, connection.transaction():
            self.before = {table: frozenset(_rows(connection, table, DELETE)) for table in TABLES}
            self.deleted = connection.execute(DELETE.encode()).rowcount

    async def lost(self) -> str:
        found = await asyncio.to_thread(self._rows_now)
        gone = {table: len(rows - found[table]) for table, rows in self.before.items()}
        names = await asyncio.to_thread(acknowledged_leads, self.primary, self.database)
        lost, doubled = lost_and_doubled(self.senders.acknowledged, names)
        tries = self.senders.tries
        assert self.deleted, "nothing was deleted: nothing is shown"
        assert not any(gone.values()), f"rows that did not come back as they were: {gone}"
        assert not lost, f"{lost} of {len(self.senders.acknowledged)} leads are gone"
        assert not doubled, f"{doubled} leads are there twice"
        others = f"{len(names) - self.deleted} others, written meanwhile too"
        return f"nothing of {self.deleted} deleted leads ({others}; {failed(tries)} of {len(tries)} requests failed)"

    def _rows_now(self) -> Mapping[str, set[str]]:
        with self.primary.connect(self.database) as connection:
            return {table: set(_rows(connection, table)) for table in TABLES}


def _rows(connection: Any, table: str, deleting: str = "") -> Sequence[str]:
    """Each row as text; with `deleting`, only those that the statement is going to take."""
    of_lead = "id" if table == "leads" else "lead_id"
    which = f" WHERE {of_lead} IN (SELECT id {deleting.removeprefix('DELETE ')})" if deleting else ""
    query = f"SELECT t::text FROM {table} AS t{which}"  # noqa: S608 - our own names
    return [text for (text,) in connection.execute(query.encode()).fetchall()]


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        aws = stack.enter_context(running_aws(folder / "aws"))
        primary = stack.enter_context(archiving())
        found = await asyncio.to_thread(primary.new_database, True)
        house = await furnish(folder / "home", {"database_url": found.app_url, "database_owner_url": found.owner_url})
        await asyncio.to_thread(back_up, primary)
        server = await stack.enter_async_context(serving(house))
        exporter = stack.enter_context(postgres_exporter(folder / "exporter", primary))
        jobs = {"postgres": [exporter], "trellis-api": [server.port]}
        prometheus = await stack.enter_async_context(watched(folder, _PHASE, jobs))
        senders = Senders(Client(await stack.enter_async_context(session()), server.address, house.key))
        load = await stack.enter_async_context(Load(senders.send, RATE))
        await asyncio.to_thread(in_aws, aws)
        aside = free_port()
        stack.enter_context(ended(primary.folder / "restored"))
        yield Restoring(
            environment={
                **aws.environment,
                "PHASE": _PHASE.value,
                "LIVE": f"postgresql://{OWNER}@127.0.0.1:{primary.port}/{found.name}",
                "ADMIN": f"postgresql://{USER}@127.0.0.1:{primary.port}/{found.name}",
                "ASIDE": f"postgresql://{OWNER}@127.0.0.1:{aside}/{found.name}",
                "ASIDE_PORT": str(aside),
                **{name.upper(): str(primary.folder / name) for name in ("base", "archive", "restored")},
            },
            programs={**as_server(primary, "pg_ctl"), "pg_waldump": [str(primary.binaries / "pg_waldump")]},
            prometheus=prometheus,
            primary=primary,
            database=found.name,
            senders=senders,
            load=load,
        )


@contextmanager
def archiving() -> Iterator[PostgresServer]:
    """A server that copies each full log to a folder beside its data."""
    with open_server() as primary:
        archive = primary.folder / "archive"
        archive.mkdir()
        own(archive)
        primary.do(
            "ALTER SYSTEM SET archive_mode = on",
            f"ALTER SYSTEM SET archive_command = 'cp %p {archive}/%f'",
        )
        primary.stop()
        primary.start()
        yield primary


def back_up(primary: PostgresServer) -> None:
    """Last night's copy of the files; the logs since are in the archive."""
    where = f"host=127.0.0.1 port={primary.port} user={USER}"
    primary.run("pg_basebackup", "-d", where, "-D", primary.folder / "base", "-X", "none", "-c", "fast", "--no-sync")
    archived = "SELECT archived_count > 0 FROM pg_stat_archiver"
    until(lambda: primary.scalar(archived), "the backup's own log is not archived")


def own(path: Path) -> None:
    """The server's user may write there."""
    user = unprivileged()
    if user is not None:
        os.chown(path, *user)


def as_server(node: Node, program: str) -> Mapping[str, Sequence[str]]:
    """PostgreSQL refuses root; on a server of one's own this is `sudo -u postgres`."""
    user = unprivileged()
    if user is None:
        return {}
    uid, gid = map(str, user)
    return {program: ("setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", str(node.binaries / program))}


@contextmanager
def ended(data: Path) -> Iterator[None]:
    """A server that a page's commands started over `data` does not outlive the stage."""
    try:
        yield
    finally:
        with suppress(OSError, ValueError, IndexError):
            os.kill(int((data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)


def in_aws(aws: Aws) -> None:
    """The database as AWS would list it."""
    what = ("--db-instance-identifier", f"trellis-{_PHASE.value}-primary", "--engine", "postgres")
    how = ("--db-instance-class", "db.t4g.medium", "--allocated-storage", "50", "--backup-retention-period", "14")
    subnets = [one["SubnetId"] for one in aws.call("ec2", "describe-subnets")["Subnets"]][:2]
    group = ("--db-subnet-group-name", f"trellis-{_PHASE.value}-database", "--db-subnet-group-description", "data")
    aws.call("rds", "create-db-subnet-group", *group, "--subnet-ids", *subnets)
    aws.call(
        "rds", "create-db-instance", *what, *how, "--master-username", OWNER, "--master-user-password", "of-moto-1"
    )


REHEARSAL = Rehearsal(
    page="procedures/point-in-time-restore",
    alert=None,
    needs=("postgres", "postgres_exporter", "prometheus", "alertmanager"),
    stage=stage,
    rollback=Rollback.AFTER,
)
