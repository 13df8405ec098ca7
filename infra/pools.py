"""How many connections each process of a phase may open, so that all of them together fit its PostgreSQL.

Pure arithmetic. Where the numbers come from, and which of them are assumptions: docs/decisions/0028.
"""

from dataclasses import dataclass
from typing import Final

from infra.phases import DatabaseServer, Phase

EMBEDDED: Final = 5
"""Connections that read an embedded database."""
# RDS: the parameter's default is LEAST({DBInstanceClassMemory/9531392}, 5000).
_BYTES_PER_CONNECTION: Final = 9_531_392
_RDS_MOST: Final = 5_000
# Assumed: the rest of the class's memory is the system's and RDS's own.
_FOR_DATABASE: Final = 0.85
# Of a process to the primary: the app's own connections, and the job engine's.
_POOLS_ON_PRIMARY: Final = 2
# PostgreSQL's superuser_reserved_connections (3), RDS's own sessions, monitoring, and two people with a shell.
RESERVE: Final = 15
# `trellis migrate`: its own connection, the one that watches it, and the job engine's two.
MIGRATION: Final = 4
# A process on one event loop cannot keep more busy; with fewer than the least, requests wait for each other.
MOST: Final = 10
LEAST: Final = 2
# More at once make PostgreSQL slower, not faster: a few for each of its cores.
_MOST_OF_POOLER: Final = 50


@dataclass(frozen=True, slots=True)
class Pools:
    """`process`: connections in each pool of a process, of which it has one to each address and one for its jobs.

    `pooler`: server connections of one PgBouncer to one server (its `default_pool_size`); 0 where there is none.
    `limit`: what each server lets in.
    """

    process: int
    pooler: int
    limit: int


def max_connections(memory_gib: float) -> int:
    """RDS's default for an instance class with that memory, as far as it can be known before one is bought."""
    return min(int(memory_gib * _FOR_DATABASE * (1 << 30) / _BYTES_PER_CONNECTION), _RDS_MOST)


def in_rollout(pods: int) -> int:
    """As many as there are while new ones replace them: Kubernetes adds up to a quarter, rounded up."""
    return pods + -(-pods // 4)


def plan(phase: Phase) -> Pools:
    """Raises ValueError where the processes do not fit the server."""
    server = phase.server
    if server is None:
        return Pools(EMBEDDED, 0, EMBEDDED)
    limit = max_connections(server.memory_gib)
    room = limit - RESERVE - MIGRATION
    workers = in_rollout(server.workers)
    if not server.poolers:
        processes = in_rollout(phase.fleet.most) + workers
        return Pools(_fitting(phase, server, room // (_POOLS_ON_PRIMARY * processes)), 0, limit)
    # A worker's job engine goes past the pooler: they take at most half of the room, the poolers have the rest.
    process = _fitting(phase, server, room // 2 // workers)
    pooler = min((room - workers * process) // server.poolers, _MOST_OF_POOLER)
    return Pools(process, pooler, limit)


def _fitting(phase: Phase, server: DatabaseServer, size: int) -> int:
    if size < LEAST:
        raise ValueError(
            f"phase '{phase.name}': its processes do not fit the connections of one {server.instance_class}: "
            "take a larger class, put PgBouncer before it, or fewer processes"
        )
    return min(size, MOST)


def on_primary(phase: Phase, pools: Pools) -> int:
    """The most connections that the phase's primary ever holds."""
    server = phase.server
    if server is None:
        return pools.process
    workers = in_rollout(server.workers)
    if server.poolers:
        return server.poolers * pools.pooler + workers * pools.process + MIGRATION + RESERVE
    return (in_rollout(phase.fleet.most) + workers) * _POOLS_ON_PRIMARY * pools.process + MIGRATION + RESERVE


def on_replica(phase: Phase, pools: Pools) -> int:
    """The most that one read replica ever holds: all of them where the others are away. 0 without replicas."""
    server = phase.server
    if server is None or not phase.stores.read_replicas:
        return 0
    if server.poolers:
        return server.poolers * pools.pooler + RESERVE
    return (in_rollout(phase.fleet.most) + in_rollout(server.workers)) * pools.process + RESERVE
