"""PostgreSQL: the primary dies while leads are written, the replica falls behind, PgBouncer is killed."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.chaos.fault import Promise, Seen, Stage
from tests.chaos.house import House, furnish, serving
from tests.chaos.leads import Senders, lost_and_doubled
from tests.chaos.load import Client, Load, Try, codes, failed, percentile_ms, session
from tests.support.databases import APP, OWNER, Addresses
from tests.support.pgbouncer import PgBouncer, running_pgbouncer
from tests.support.postgres import Node, PostgresServer, Replica, open_server
from tests.support.redis import running
from tests.support.wire import Wire

TENANTS = ("acme", "rival", "third", "fourth")
RATE = 15.0
DECIDED_S = 60.0


def address(name: str, login: str, *ports: int) -> str:
    """All of these servers; whoever takes writes is the one."""
    hosts = "&".join(f"host=127.0.0.1:{port}" for port in ports)
    return f"postgresql+asyncpg://{login}@/{name}?{hosts}&target_session_attrs=read-write"


def acknowledged_leads(node: Node, name: str) -> list[str]:
    """What the senders called the leads that are there, all tenants."""
    with closing(node.connect(name)) as connection:
        rows = connection.execute("SELECT external_id FROM leads WHERE external_id LIKE 'chaos-%'").fetchall()
    return [str(found) for (found,) in rows]


def doubled_decisions(node: Node, name: str) -> int:
    """Leads that were decided more than once."""
    query = "SELECT count(*) FROM (SELECT subject_id FROM decisions GROUP BY 1 HAVING count(*) > 1) AS twice"
    return int(node.scalar(query, name))


async def undecided(node: Node, name: str) -> int:
    """Leads that still wait for their decision after a minute."""
    left = -1
    for _ in range(int(DECIDED_S / 0.5)):
        left = int(await asyncio.to_thread(node.scalar, "SELECT count(*) FROM leads WHERE status = 'new'", name))
        if not left:
            break
        await asyncio.sleep(0.5)
    return left


@dataclass(frozen=True)
class Speed:
    """Of writes one after the other on a few connections: how many a second, and their times in milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


class PrimaryKilled:
    """The app has both servers' addresses. Who promotes the standby is the harness, as RDS or Patroni would."""

    name = "postgres-primary"
    title = "PostgreSQL's primary is killed, its synchronous standby promoted"
    needs = ("postgres",)
    promise = Promise(
        "no acknowledged write is lost, none is done twice; the app and its jobs find the new primary by themselves; "
        "what fails meanwhile is a 503",
        recovery_s=10,
        figures={"other_errors": 0, "undecided": 0},
    )

    async def run(self, stage: Stage) -> Seen:
        primary = stage.stack.enter_context(open_server(fast=False))
        found = await asyncio.to_thread(primary.new_database, True)
        standby = stage.stack.enter_context(primary.replica(synchronous=True))
        http = await stage.stack.enter_async_context(session())
        cost = await self._cost(stage, http, primary, standby)
        house = await self._house(stage.folder / "home", primary, standby, found)
        server = await stage.stack.enter_async_context(serving(house, "working", executor_id="first"))
        client = Client(http, server.address, house.key)
        senders = Senders(client, patience_s=30)
        stage.tell("leads are written, the primary dies")
        async with Load(senders.send, RATE):
            await asyncio.sleep(3)
            killed = time.monotonic()
            await asyncio.to_thread(primary.kill)
            await asyncio.to_thread(standby.promote)
            promoted_s = time.monotonic() - killed
            await asyncio.sleep(10)
        left = await undecided(standby, found.name)
        lost, doubled = lost_and_doubled(senders.acknowledged, acknowledged_leads(standby, found.name))
        late = [each for each in senders.tries if not each.ok]
        return Seen(
            tried=len(senders.tries),
            failed=len(late),
            lost=lost,
            doubled=doubled + doubled_decisions(standby, found.name),
            recovery_s=first_after(senders.tries, killed),
            kinds=codes(late),
            figures={"promoted_s": promoted_s, "other_errors": unexpected(late), "undecided": left} | cost,
        )

    async def _house(self, folder: Path, primary: Node, standby: Node, found: Addresses) -> House:
        ports = (primary.port, standby.port)
        settings = {
            "database_url": address(found.name, APP, *ports),
            "database_owner_url": address(found.name, OWNER, *ports),
        }
        return await furnish(folder, settings, tenants=TENANTS)

    async def _cost(
        self, stage: Stage, http: aiohttp.ClientSession, primary: PostgresServer, standby: Replica
    ) -> dict[str, float]:
        """The same writes with and without waiting for the standby, by turns, on a database of their own."""
        found = await asyncio.to_thread(primary.new_database, True)
        house = await self._house(stage.folder / "cost", primary, standby, found)
        speeds: dict[bool, list[Speed]] = {True: [], False: []}
        async with serving(house, "measured", worker=False) as server:
            clients = [Client(http, server.address, key) for key in house.keys.values()]
            numbers = itertools.count()
            await write_for(1.0, clients, numbers)
            for waits in (True, False, True, False):
                stage.tell(f"the cost of {'a synchronous' if waits else 'an asynchronous'} standby")
                await asyncio.to_thread(primary.wait_for_standbys, *([standby.name] if waits else []))
                speeds[waits].append(await write_for(3.0, clients, numbers))
        await asyncio.to_thread(primary.wait_for_standbys, standby.name)
        return {
            f"{'sync' if waits else 'async'}_{figure}": sum(getattr(each, figure) for each in found) / len(found)
            for waits, found in speeds.items()
            for figure in ("rate", "p50_ms", "p99_ms")
        }


async def write_for(seconds: float, clients: Sequence[Client], numbers: "itertools.count[int]") -> Speed:
    """Each client has two writes under way. Raises RuntimeError where one is refused."""
    tries: list[Try] = []
    began = time.monotonic()

    async def one(client: Client) -> None:
        while time.monotonic() - began < seconds:
            number = next(numbers)
            body = {"name": f"Cost {number}", "email": f"cost{number}@example.org", "message": "Hello.", "company": "C"}
            tries.append(await client.post("/v1/leads", body, Idempotency_Key=f"cost-{number}"))

    await asyncio.gather(*(one(client) for client in clients for _ in range(2)))
    took = time.monotonic() - began
    if failed(tries):
        raise RuntimeError(f"writes fail without a fault: {next(each for each in tries if not each.ok)}")
    return Speed(len(tries) / took, percentile_ms(tries, 50), percentile_ms(tries, 99))


def first_after(tries: Sequence[Try], moment: float) -> float | None:
    """Seconds from the moment until requests succeed again: to the end of the first that succeeded among those that
    began after the last failure. A repeat that is told that its own first try is still at work, which its lease of a
    minute says where nobody could take it back, is none."""
    failures = [each for each in tries if not each.ok and each.code != "in-flight"]
    late = [each.began for each in failures if each.began + each.took_s > moment]
    if not late:
        return 0.0
    ends = [each.began + each.took_s - moment for each in tries if each.ok and each.began > max(late)]
    return max(0.0, min(ends)) if ends else None


def unexpected(late: Sequence[Try]) -> int:
    """Failures that are not the 503 of a database that is away, or the 409 of one's own earlier try."""
    return sum(each.code not in ("unavailable", "in-flight") for each in late)


class ReplicaBehind:
    """Two API processes share a Redis: one is written to, the other read from."""

    name = "replica-behind"
    title = "The replica is 10 s behind"
    needs = ("postgres", "redis")
    promise = Promise(
        "a tenant sees its own writes at once, also through another process; no read fails; tenants that did not write "
        "are still read on the replica",
        failed=0,
        recovery_s=1,
        figures={"stale": 0, "others_elsewhere_share": 0.05},
    )
    behind_s = 10.0

    async def run(self, stage: Stage) -> Seen:
        primary = stage.stack.enter_context(open_server())
        found = await asyncio.to_thread(primary.new_database, True)
        standby = stage.stack.enter_context(primary.replica())
        redis = stage.stack.enter_context(running(stage.folder / "redis"))
        settings = {
            "database_url": primary.url(found.name, APP),
            "database_reader_url": standby.url(found.name, APP),
            "database_owner_url": primary.url(found.name, OWNER),
            "redis_url": redis.url,
            "worker": False,
        }
        house = await furnish(stage.folder / "home", settings, tenants=TENANTS)
        standby.catch_up()
        http = await stage.stack.enter_async_context(session())
        writing = await stage.stack.enter_async_context(serving(house, "writing"))
        reading = await stage.stack.enter_async_context(serving(house, "reading"))
        own = OwnWrites(Client(http, writing.address, house.key), Client(http, reading.address, house.key))
        others = Client(http, reading.address, house.keys["rival"])
        # So that each tenant's last write is known, and on the replica.
        await own.round(-1)
        await others.get("/v1/leads?limit=5")
        await asyncio.to_thread(standby.catch_up)
        stage.tell("one tenant writes and reads, another only reads; replay is paused")
        await asyncio.to_thread(standby.pause_replay)
        before = await reads_by_place(others)

        async def read(_number: int) -> Try:
            return await others.get("/v1/leads?limit=5")

        async with Load(own.round, RATE) as rounds:
            async with Load(read, RATE) as reads:
                await asyncio.sleep(self.behind_s)
            elsewhere = own.reads
            await asyncio.to_thread(standby.resume_replay)
        after = await reads_by_place(others)
        moved = {place: after.get(place, 0) - before.get(place, 0) for place in after}
        behind = moved.get("writer_replica_behind", 0)
        return Seen(
            tried=2 * len(rounds.tries) + len(reads.tries),
            failed=own.failed + failed(reads.tries),
            recovery_s=await self._again_on_the_replica(others, own),
            kinds=codes([*rounds.tries, *reads.tries]),
            figures={
                "stale": own.stale,
                "reads_on_replica": moved.get("replica", 0),
                "reads_on_primary": sum(moved.values()) - moved.get("replica", 0),
                "others_elsewhere_share": max(0.0, 1 - moved.get("replica", 0) / max(len(reads.tries), 1)),
                "own_reads_behind_share": behind / max(elsewhere, 1),
            },
        )

    async def _again_on_the_replica(self, client: Client, own: "OwnWrites") -> float | None:
        """Seconds until the writing tenant is read on the replica."""
        began = time.monotonic()
        while time.monotonic() - began < 10:
            before = (await reads_by_place(client)).get("replica", 0)
            await own.read_last()
            if (await reads_by_place(client)).get("replica", 0) > before:
                return time.monotonic() - began
            await asyncio.sleep(0.05)
        return None


@dataclass
class OwnWrites:
    """Writes through one process, and reads at once through the other."""

    writer: Client
    reader: Client
    stale: int = 0
    failed: int = 0
    reads: int = 0
    last: str = ""

    async def round(self, number: int) -> Try:
        body = {"name": f"P {number}", "email": f"p{number}@example.org", "message": "Hello.", "company": "C"}
        written = await self.writer.post("/v1/leads", body)
        if not written.ok:
            self.failed += 1
            return written
        self.last = str(written.body["lead"]["id"])
        read = await self.read_last(self.last)
        self.stale += read.status == 404
        self.failed += not read.ok
        return read

    async def read_last(self, lead_id: str = "") -> Try:
        self.reads += 1
        return await self.reader.get(f"/v1/leads/{lead_id or self.last}")


async def reads_by_place(client: Client) -> dict[str, float]:
    """The service's own count of where reads went."""
    shown = await client.text("/metrics")
    lines = (line for line in shown.splitlines() if line.startswith("trellis_database_reads_total{"))
    return {line.split('where="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


class PoolerKilled:
    """PgBouncer dies with every transaction that is in it; another takes its address two seconds later."""

    name = "pgbouncer"
    title = "PgBouncer is killed and started anew"
    needs = ("postgres", "pgbouncer")
    promise = Promise(
        "no acknowledged write is lost, none is done twice; what fails meanwhile is a 503; the app connects again by "
        "itself",
        recovery_s=2,
        figures={"other_errors": 0, "undecided": 0},
    )
    away_s = 2.0

    async def run(self, stage: Stage) -> Seen:
        primary = stage.stack.enter_context(open_server())
        found = await asyncio.to_thread(primary.new_database, True)
        first = stage.stack.enter_context(running_pgbouncer(primary.port))
        wire = stage.stack.enter_context(Wire(first.port))
        settings = {
            "database_url": f"postgresql+asyncpg://{APP}@127.0.0.1:{wire.port}/{found.name}",
            "database_direct_url": found.app_url,
            "database_owner_url": found.owner_url,
            "database_pooled": True,
        }
        house = await furnish(stage.folder, settings)
        http = await stage.stack.enter_async_context(session())
        server = await stage.stack.enter_async_context(serving(house))
        senders = Senders(Client(http, server.address, house.key), patience_s=20)
        stage.tell("leads are written, PgBouncer goes and comes back")
        async with Load(senders.send, RATE):
            await asyncio.sleep(3)
            await asyncio.to_thread(wire.cut)
            second: PgBouncer = await asyncio.to_thread(stage.stack.enter_context, running_pgbouncer(primary.port))
            await asyncio.sleep(self.away_s)
            wire.target_port = second.port
            await asyncio.to_thread(wire.heal)
            healed = time.monotonic()
            await asyncio.sleep(5)
        left = await undecided(primary, found.name)
        lost, doubled = lost_and_doubled(senders.acknowledged, acknowledged_leads(primary, found.name))
        late = [each for each in senders.tries if not each.ok]
        return Seen(
            tried=len(senders.tries),
            failed=len(late),
            lost=lost,
            doubled=doubled + doubled_decisions(primary, found.name),
            recovery_s=first_after([each for each in senders.tries if each.began > healed], healed),
            kinds=codes(late),
            figures={"other_errors": unexpected(late), "undecided": left},
        )
