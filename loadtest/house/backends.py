"""The stores of a phase on this machine: real servers where there are any, and a sentence for what is not real."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from infra.kubernetes.sizes import WORKERS_LEAST
from infra.phases import Cache, Phase
from infra.pools import plan
from loadtest.house.errors import HouseError
from loadtest.house.processes import port_of, printing
from tests.support.components import COMPONENTS
from tests.support.databases import APP, Addresses
from tests.support.fakes.qdrant import KEY as VECTORS_KEY
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import USER, Node, open_server
from tests.support.redis import PATIENT_NODE_TIMEOUT_MS, RedisServer, running, running_cluster

Result = TypeVar("Result")


@dataclass
class Stores:
    """What runs. `settings` by name, as the API gets them; `migrating` what a migration gets beside them; `ports` by
    part: what its servers listen on. `administrator`: the database as nobody but its superuser sees it, for psycopg."""

    settings: dict[str, Any] = field(default_factory=dict)
    migrating: dict[str, Any] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ports: dict[str, tuple[int, ...]] = field(default_factory=dict)
    administrator: str = ""


async def entered(stack: AsyncExitStack, manager: AbstractContextManager[Result]) -> Result:
    """Entered in a thread; where the wait is cancelled, what was started is on the stack all the same."""
    entering = asyncio.ensure_future(asyncio.to_thread(stack.enter_context, manager))
    try:
        return await asyncio.shield(entering)
    except asyncio.CancelledError:
        await asyncio.wait([entering])
        raise


async def stores(stack: AsyncExitStack, folder: Path, phase: Phase, say: Callable[[str], None]) -> Stores:
    """Starts what the phase has. Raises HouseError where PostgreSQL is not installed and the phase has one."""
    found = Stores()
    if phase.server is None:
        found.named |= {"database": "SQLite", "cache": "in process", "vectors": "Qdrant embedded"}
        return found
    if COMPONENTS["postgres"].find() is None:
        raise HouseError(
            f"PostgreSQL is not installed, and nothing of phase '{phase.name}' can be measured without it: `make deps`."
        )
    if COMPONENTS["redis"].find() is None:
        found.notes.append(
            "Redis is not installed (`make deps`): each process caches and counts for itself; the "
            f"cache of '{phase.name}', reads of a replica and limits over replicas are not measured."
        )
    else:
        await _cache(stack, folder, phase, found, say)
    await _database(stack, phase, found, say)
    await _vectors(stack, folder, found, say)
    return found


async def _cache(stack: AsyncExitStack, folder: Path, phase: Phase, found: Stores, say: Callable[[str], None]) -> None:
    say("Redis")
    nodes: Sequence[RedisServer]
    if phase.stores.cache is Cache.REDIS_CLUSTER:
        replicas = phase.cache.replicas if phase.cache else 0
        patience = PATIENT_NODE_TIMEOUT_MS
        cluster = await entered(stack, running_cluster(folder / "redis", replicas, patience))
        nodes, url = (*cluster.masters, *cluster.replicas), cluster.url
        found.named["cache"] = f"Redis Cluster, {len(cluster.masters)} shards, {len(cluster.replicas)} replicas"
    else:
        server = await entered(stack, running(folder / "redis"))
        nodes, url = (server,), server.url
        found.named["cache"] = "Redis, one server"
        found.notes.append("Redis has no replica here: what copying to it costs the primary is not measured.")
    found.settings["redis_url"] = url
    found.ports["redis"] = tuple(node.port for node in nodes)


async def _database(stack: AsyncExitStack, phase: Phase, found: Stores, say: Callable[[str], None]) -> None:
    say("PostgreSQL")
    primary = await entered(stack, open_server(fast=False))
    made = await asyncio.to_thread(primary.new_database, True)
    found.ports["postgres"] = (primary.port,)
    found.settings["database_url"] = made.app_url
    found.migrating["database_owner_url"] = made.owner_url
    found.administrator = f"host=127.0.0.1 port={primary.port} user={USER} dbname={made.name}"
    found.named["database"] = "PostgreSQL"
    reader = None
    if phase.stores.read_replicas and "redis_url" in found.settings:
        say("a standby of PostgreSQL")
        reader = await entered(stack, primary.replica())
        found.ports["postgres standby"] = (reader.port,)
        found.named["database"] = "PostgreSQL and a standby"
        found.settings["database_reader_url"] = reader.url(made.name, APP)
    await _pooled(stack, phase, found, made, primary, reader, say)


async def _pooled(
    stack: AsyncExitStack,
    phase: Phase,
    found: Stores,
    made: Addresses,
    primary: Node,
    reader: Node | None,
    say: Callable[[str], None],
) -> None:
    if phase.server is None or not phase.server.poolers:
        return
    if COMPONENTS["pgbouncer"].find() is None:
        found.notes.append(
            f"PgBouncer is not installed (`make deps`): the app connects by itself, and '{phase.name}' is measured "
            "without its pooler."
        )
        return
    say("PgBouncer")
    size = pooler_share(phase)
    writing = await entered(stack, running_pgbouncer(primary.port, pool_size=size))
    found.settings |= {"database_url": writing.url(made.name), "database_direct_url": made.app_url}
    found.settings["database_pooled"] = "true"
    poolers = [writing.port]
    if reader is not None:
        reading = await entered(stack, running_pgbouncer(reader.port, pool_size=size))
        found.settings["database_reader_url"] = reading.url(made.name)
        poolers.append(reading.port)
    found.ports["pgbouncer"] = tuple(poolers)
    found.named["pooler"] = f"PgBouncer, {size} connections to each server: the replica's and worker's share"


def pooler_share(phase: Phase) -> int:
    """Connections of PgBouncer to a server that one API process and one worker have among all of the least fleet."""
    server = phase.server
    if server is None:
        return 0
    together = server.poolers * plan(phase).pooler
    return max(2, 2 * together // (phase.fleet.least + WORKERS_LEAST))


async def _vectors(stack: AsyncExitStack, folder: Path, found: Stores, say: Callable[[str], None]) -> None:
    say("Qdrant's interface")
    address = await entered(stack, printing(["-m", "tests.support.fakes.qdrant_process"], folder / "vectors.log"))
    found.settings |= {"vectors_url": address, "vectors_key": VECTORS_KEY}
    found.ports["vectors"] = (port_of(address),)
    found.named["vectors"] = "Qdrant's REST API in Python over its embedded engine"
    found.notes.append(
        "No Qdrant server runs here: its API is answered by one Python process over the embedded engine, whose times "
        "and CPU are not the server's."
    )
