"""A phase is one declaration: what it must carry, how fast, how reliably, for how much money a month.

Everything else follows from it: infrastructure, the app's settings, SLOs, alert rules, threshold lines on
dashboards, load gates and the cost check. Pure data: no Pulumi, no app, no input or output.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class PhaseName(StrEnum):
    POC = "poc"
    SMALL = "small"
    MEDIUM = "medium"
    MULTI_REGION = "multi-region"


class Compute(StrEnum):
    INSTANCE = "one instance"
    EKS = "EKS"
    EKS_MULTI_REGION = "EKS, active-active"


class Relational(StrEnum):
    SQLITE = "SQLite, streamed to S3"
    RDS = "RDS Postgres, multi-AZ"
    RDS_REPLICAS = "RDS Postgres, multi-AZ, read replicas, PgBouncer"
    AURORA_GLOBAL = "Aurora global, a writer and local readers"


class Cache(StrEnum):
    IN_PROCESS = "in process"
    REDIS = "Redis, one shard and a replica"
    REDIS_CLUSTER = "Redis Cluster"


class Vectors(StrEnum):
    EMBEDDED = "Qdrant embedded"
    SERVER = "Qdrant server"
    CLUSTER = "Qdrant cluster, replicated"


@dataclass(frozen=True, slots=True)
class Load:
    """What the phase carries, for each region where it has several."""

    leads_per_month: int
    concurrent_conversations: int
    documents: int


@dataclass(frozen=True, slots=True)
class Targets:
    """What its users are promised.

    Times in seconds; `answer_p99_s` is None where the phase promises none. `failed_share` is the share of
    requests that may fail in 30 days. `own_share_p99_s` is our part of a request, the model's time taken out.
    """

    answer_p50_s: float
    answer_p99_s: float | None
    failed_share: float
    own_share_p99_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Stores:
    relational: Relational
    read_replicas: int
    cache: Cache
    cache_shards: int
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class Fleet:
    """API pods a region: between `least` and `most`; own GPU nodes where models are served by ourselves."""

    compute: Compute
    regions: int
    least: int
    most: int
    gpu_nodes: bool


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A PostgreSQL of the phase and who connects to it; each read replica is of the same class.

    `memory_gib` is what AWS lists for the class. `workers`: processes that run jobs, at most. `poolers`: PgBouncer
    processes before each server, in transaction mode; 0: none, the app connects by itself.
    """

    instance_class: str
    memory_gib: int
    workers: int
    poolers: int


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase. `headroom` is how many times the load is proven before it is promised (None: not proven)."""

    name: PhaseName
    load: Load
    targets: Targets
    budget_usd_month: int
    headroom: int | None
    fleet: Fleet
    stores: Stores
    server: DatabaseServer | None = None


_ALL: Final = (
    Phase(
        name=PhaseName.POC,
        load=Load(leads_per_month=500, concurrent_conversations=10, documents=1_000),
        targets=Targets(answer_p50_s=3.0, answer_p99_s=None, failed_share=0.01),
        budget_usd_month=50,
        headroom=None,
        fleet=Fleet(Compute.INSTANCE, regions=1, least=1, most=1, gpu_nodes=False),
        stores=Stores(Relational.SQLITE, 0, Cache.IN_PROCESS, 0, Vectors.EMBEDDED),
    ),
    Phase(
        name=PhaseName.SMALL,
        load=Load(leads_per_month=5_000, concurrent_conversations=50, documents=10_000),
        targets=Targets(answer_p50_s=1.0, answer_p99_s=3.0, failed_share=0.01),
        budget_usd_month=500,
        headroom=2,
        fleet=Fleet(Compute.EKS, regions=1, least=3, most=5, gpu_nodes=False),
        stores=Stores(Relational.RDS, 0, Cache.REDIS, 1, Vectors.SERVER),
        server=DatabaseServer("db.t4g.medium", memory_gib=4, workers=2, poolers=0),
    ),
    Phase(
        name=PhaseName.MEDIUM,
        load=Load(leads_per_month=50_000, concurrent_conversations=500, documents=100_000),
        targets=Targets(answer_p50_s=0.5, answer_p99_s=2.0, failed_share=0.005),
        budget_usd_month=3_000,
        headroom=5,
        fleet=Fleet(Compute.EKS, regions=1, least=10, most=30, gpu_nodes=True),
        stores=Stores(Relational.RDS_REPLICAS, 2, Cache.REDIS_CLUSTER, 3, Vectors.CLUSTER),
        server=DatabaseServer("db.r6g.large", memory_gib=16, workers=10, poolers=2),
    ),
    Phase(
        name=PhaseName.MULTI_REGION,
        load=Load(leads_per_month=100_000, concurrent_conversations=1_000, documents=1_000_000),
        targets=Targets(answer_p50_s=0.3, answer_p99_s=1.0, failed_share=0.001),
        budget_usd_month=15_000,
        headroom=5,
        fleet=Fleet(Compute.EKS_MULTI_REGION, regions=3, least=10, most=30, gpu_nodes=True),
        stores=Stores(Relational.AURORA_GLOBAL, 2, Cache.REDIS_CLUSTER, 3, Vectors.CLUSTER),
        server=DatabaseServer("db.r6g.xlarge", memory_gib=32, workers=20, poolers=3),
    ),
)

PHASES: Final = MappingProxyType({phase.name: phase for phase in _ALL})
