"""What a person is told of PostgreSQL by AWS itself, also where our own telemetry is away."""

from collections.abc import Sequence
from typing import Final

from infra.aws.alarms import Alarm

_RDS: Final = "AWS/RDS"
_BUSY_PERCENT: Final = 85
_CONNECTIONS_SHARE: Final = 0.85
_DISK_SHARE: Final = 0.15
_BEHIND_S: Final = 60
_GLOBAL_BEHIND_MS: Final = 10_000
_GIB: Final = 1 << 30


def of_primary(instance: str, connections: int, disk_gib: int) -> Sequence[Alarm]:
    """Args: `connections`: what it lets in. `disk_gib`: what it starts with; RDS adds to it below a tenth."""
    where = {"DBInstanceIdentifier": instance}
    return (
        Alarm(
            name="primary-busy",
            namespace=_RDS,
            metric="CPUUtilization",
            dimensions=where,
            threshold=_BUSY_PERCENT,
            minutes=15,
            why="PostgreSQL is short of CPU: look at Performance Insights for the statement, or take a larger class.",
            silent_is_bad=True,
        ),
        Alarm(
            name="primary-connections",
            namespace=_RDS,
            metric="DatabaseConnections",
            dimensions=where,
            threshold=int(connections * _CONNECTIONS_SHARE),
            minutes=5,
            why="Nearly as many connections as PostgreSQL lets in: infra/pools.py says how many each process may open.",
            statistic="Maximum",
        ),
        Alarm(
            name="primary-disk",
            namespace=_RDS,
            metric="FreeStorageSpace",
            dimensions=where,
            threshold=disk_gib * _GIB * _DISK_SHARE,
            minutes=15,
            why="PostgreSQL's disk is nearly full. RDS adds to it, at most once in six hours: look at what grows.",
            statistic="Minimum",
            below=True,
        ),
    )


def of_replica(instance: str, name: str) -> Sequence[Alarm]:
    """Args: `name`: of the replica, in the alarm's own name."""
    return (
        Alarm(
            name=f"{name}-behind",
            namespace=_RDS,
            metric="ReplicaLag",
            dimensions={"DBInstanceIdentifier": instance},
            threshold=_BEHIND_S,
            minutes=5,
            why="A read replica is more than a minute behind: reads that may not be old go to the writer meanwhile.",
            statistic="Maximum",
        ),
    )


def of_aurora(cluster: str, connections: int, *, joined: bool) -> Sequence[Alarm]:
    """Args: `joined`: the cluster follows another region's writer."""
    where = {"DBClusterIdentifier": cluster}
    alarms = [
        Alarm(
            name="database-busy",
            namespace=_RDS,
            metric="CPUUtilization",
            dimensions=where,
            threshold=_BUSY_PERCENT,
            minutes=15,
            why="Aurora is short of CPU: look at Performance Insights for the statement, or take a larger class.",
            silent_is_bad=True,
        ),
        Alarm(
            name="database-connections",
            namespace=_RDS,
            metric="DatabaseConnections",
            dimensions=where,
            threshold=int(connections * _CONNECTIONS_SHARE),
            minutes=5,
            why="Nearly as many connections as an instance lets in: infra/pools.py says who may open how many.",
            statistic="Maximum",
        ),
    ]
    if joined:
        alarms.append(
            Alarm(
                name="database-behind",
                namespace=_RDS,
                metric="AuroraGlobalDBReplicationLag",
                dimensions=where,
                threshold=_GLOBAL_BEHIND_MS,
                minutes=5,
                why="This region is over 10 s behind the writer's: what a failover now would lose.",
                statistic="Maximum",
            )
        )
    return alarms
