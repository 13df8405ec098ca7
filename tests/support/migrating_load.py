"""A service under steady load while its schema goes down and up: what became of every request."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.storage.db import Database
from app.storage.schema import upgrade
from tests.chaos.house import furnish, serving
from tests.chaos.leads import Senders
from tests.chaos.load import Client, Load, Try, session
from tests.support.databases import Addresses
from tests.support.revisions import NewerProgram
from tests.support.server import ROOT

LOWEST = "0003"
"""Down to here: row policies, and all that is newer, go and come back. What is older drops tables with rows."""
READS = ("/v1/leads?limit=20", "/v1/leads/counts", "/v1/decisions?limit=20", "/v1/approvals")


@dataclass(frozen=True)
class Ridden:
    """`before`: with nothing else going on; `beside`: while a database on the same server, which nobody uses,
    went down and up, and took the machine's time; `during`: while ours did. `steps` revisions, `waits` for a lock that
    was not got, in `took_s`. `sent`: the names of the leads that were acknowledged."""

    before: Sequence[Try]
    beside: Sequence[Try]
    during: Sequence[Try]
    steps: int
    waits: int
    took_s: float
    sent: frozenset[str]


def busy_revisions(folder: Path) -> NewerProgram:
    """What a next release brings to the table that is written most: a column, an index, a rule."""
    newer = NewerProgram(folder)
    newer.add(
        "9001",
        'op.add_column("leads", sa.Column("more", sa.String(40), server_default="", nullable=False))',
        'op.drop_column("leads", "more")',
    )
    newer.add(
        "9002",
        'online.create_index("ix_leads_more", "leads", ["tenant_id", "more", "id"])',
        'online.drop_index("ix_leads_more", "leads")',
    )
    newer.add(
        "9003",
        """online.add_check("ck_leads_more", "leads", "length(more) < 40")""",
        'online.drop_constraint("ck_leads_more", "leads", "check")',
    )
    return newer


async def ride(
    folder: Path,
    ours: Addresses,
    *,
    rate: float,
    calm_s: float,
    rounds: int,
    worker: bool,
    unused: Addresses | None = None,
) -> Ridden:
    """`rate` requests a second, a third of them leads with an Idempotency-Key, the others reads of lists."""
    settings = {"database_url": ours.app_url, "database_owner_url": ours.owner_url, "worker": worker}
    house = await furnish(folder / "house", settings)
    newer = busy_revisions(folder)
    async with (
        serving(house) as server,
        session() as http,
        AsyncExitStack() as stack,
        _migrator(folder, ours, rounds, newer) as migrator,
    ):
        other = await stack.enter_async_context(_migrator(folder, unused, rounds, newer)) if unused else None
        senders = Senders(Client(http, server.address, house.key))

        async def send(number: int) -> Try:
            if number % 3 == 0:
                return await senders.send(number)
            return await senders.client.get(READS[number // 3 % len(READS)])

        # First requests open connections and prepare statements.
        async with Load(send, rate) as warm:
            await asyncio.sleep(calm_s / 2)
        async with Load(send, rate, first=10**6) as before:
            await asyncio.sleep(calm_s)
        async with Load(send, rate, first=2 * 10**6) as beside:
            if other:
                await _finished(other)
        async with Load(send, rate, first=3 * 10**6) as during:
            steps, waits, took_s = await _finished(migrator)
        assert warm.tries
    return Ridden(
        before.tries,
        beside.tries,
        during.tries,
        int(steps),
        int(waits),
        float(took_s),
        frozenset(senders.acknowledged),
    )


@asynccontextmanager
async def _migrator(
    folder: Path, addresses: Addresses, rounds: int, newer: NewerProgram
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ready, with the newest schema; begins when it is told."""
    owner = Database(addresses.owner_url)
    with newer.running():
        await upgrade(owner.writer)
    await owner.close()
    arguments = ("-m", "tests.support.migrating_child", addresses.owner_url, str(folder), LOWEST, str(rounds))
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdin=pipe, stdout=pipe)
    try:
        assert child.stdout is not None
        assert await child.stdout.readline() == b"ready\n"
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _finished(migrator: asyncio.subprocess.Process) -> list[bytes]:
    output, _ = await migrator.communicate(b"go\n")
    assert migrator.returncode == 0
    return output.split()
