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


QUESTION_EVERY_S: Final = 10
"""A person in a conversation reads, thinks and writes for so long before the next question."""
PEAK: Final = 10
WORKING_S: Final = 22 * 8 * 3600
"""Seconds of a month's working hours, when leads come."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the phase carries, for each region where it has several."""

    leads_per_month: int
    concurrent_conversations: int
    documents: int

    @property
    def questions_s(self) -> float:
        """Questions in a second, all conversations at once."""
        return self.concurrent_conversations / QUESTION_EVERY_S

    @property
    def leads_s(self) -> float:
        """Leads in a second of the busiest hour: `PEAK` times the mean of working hours."""
        return self.leads_per_month / WORKING_S * PEAK


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
    """API pods a region: between `least` and `most`; own GPU nodes where models are served by ourselves.

    `regions`: AWS's names of those that a team gets which names none; the first has the database's writer.
    """

    compute: Compute
    regions: tuple[str, ...]
    least: int
    most: int
    gpu_nodes: bool


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A PostgreSQL of the phase and who connects to it; each read replica is of the same class.

    `memory_gib` is what AWS lists for the class; `disk_gib` is None where the storage grows by itself. `workers`:
    processes that run jobs, at most. `poolers`: PgBouncer processes before each server, in transaction mode; 0: none,
    the app connects by itself.
    """

    instance_class: str
    memory_gib: int
    workers: int
    poolers: int
    disk_gib: int | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """`nats`: NAT gateways of a region, one for all its zones or one each. `endpoints`: of AWS's services that the
    cluster reaches without them, each paid for in every zone (S3's is free, and always there)."""

    nats: int
    endpoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pod:
    """What one pod is promised: thousandths of a core, and MiB, of which it gets no more."""

    cpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class Nodes:
    """Machines of a region's cluster.

    `bootstrap`: of the small group that holds what makes the others. `general`: types that Karpenter may choose from,
    never more than `most_vcpu` together. `gpu`: types for models, at least and at most so many of them.
    """

    bootstrap: str
    bootstrap_count: int
    general: tuple[str, ...]
    most_vcpu: int
    gpu: tuple[str, ...] = ()
    gpu_least: int = 0
    gpu_most: int = 0


@dataclass(frozen=True, slots=True)
class CacheServer:
    """Redis of a region: `Stores.cache_shards` shards, each a primary with so many replicas."""

    node_class: str
    replicas: int


@dataclass(frozen=True, slots=True)
class VectorServer:
    """Qdrant of a region: peers (odd, or one), copies of each part of an index, and each peer's pod and disk."""

    peers: int
    copies: int
    pod: Pod
    disk_gib: int


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Models on our own GPU nodes: one pod a node.

    `day_utc`: hours between which at least `least` are kept; outside them, and with nothing to do, `night_least`.
    """

    model: str
    least: int
    most: int
    night_least: int
    day_utc: tuple[int, int]
    pod: Pod


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase. `headroom` is how many times the load is proven before it is promised (None: not proven).

    `instance` is the machine of a phase that has no cluster. What a phase has none of is None.
    """

    name: PhaseName
    load: Load
    targets: Targets
    budget_usd_month: int
    headroom: int | None
    fleet: Fleet
    stores: Stores
    server: DatabaseServer | None = None
    instance: str | None = None
    network: Network | None = None
    nodes: Nodes | None = None
    api: Pod = Pod(500, 640)
    worker: Pod = Pod(500, 768)
    cache: CacheServer | None = None
    vectors: VectorServer | None = None
    models: ModelServer | None = None


_ONE_REGION: Final = ("eu-central-1",)
_THREE_REGIONS: Final = ("us-east-1", "eu-central-1", "ap-northeast-1")

_ALL: Final = (
    Phase(
        name=PhaseName.POC,
        load=Load(leads_per_month=500, concurrent_conversations=10, documents=1_000),
        targets=Targets(answer_p50_s=3.0, answer_p99_s=None, failed_share=0.01),
        budget_usd_month=50,
        headroom=None,
        fleet=Fleet(Compute.INSTANCE, regions=_ONE_REGION, least=1, most=1, gpu_nodes=False),
        stores=Stores(Relational.SQLITE, 0, Cache.IN_PROCESS, 0, Vectors.EMBEDDED),
        instance="t4g.small",
    ),
    Phase(
        name=PhaseName.SMALL,
        load=Load(leads_per_month=5_000, concurrent_conversations=50, documents=10_000),
        targets=Targets(answer_p50_s=1.0, answer_p99_s=3.0, failed_share=0.01),
        budget_usd_month=500,
        headroom=2,
        fleet=Fleet(Compute.EKS, regions=_ONE_REGION, least=3, most=5, gpu_nodes=False),
        stores=Stores(Relational.RDS, 0, Cache.REDIS, 1, Vectors.SERVER),
        server=DatabaseServer("db.t4g.medium", memory_gib=4, workers=2, poolers=0, disk_gib=50),
        network=Network(nats=1),
        nodes=Nodes("t4g.medium", 2, ("t4g.medium", "t4g.large", "m7g.large", "m6g.large"), most_vcpu=16),
        cache=CacheServer("cache.t4g.micro", replicas=1),
        vectors=VectorServer(peers=1, copies=1, pod=Pod(500, 1024), disk_gib=20),
    ),
    Phase(
        name=PhaseName.MEDIUM,
        load=Load(leads_per_month=50_000, concurrent_conversations=500, documents=100_000),
        targets=Targets(answer_p50_s=0.5, answer_p99_s=2.0, failed_share=0.005),
        budget_usd_month=3_000,
        headroom=5,
        fleet=Fleet(Compute.EKS, regions=_ONE_REGION, least=10, most=30, gpu_nodes=True),
        stores=Stores(Relational.RDS_REPLICAS, 2, Cache.REDIS_CLUSTER, 3, Vectors.CLUSTER),
        server=DatabaseServer("db.r6g.large", memory_gib=16, workers=10, poolers=2, disk_gib=200),
        network=Network(nats=3, endpoints=("ecr.api", "ecr.dkr")),
        nodes=Nodes(
            "t4g.medium",
            2,
            ("m7g.xlarge", "m6g.xlarge", "c7g.xlarge"),
            most_vcpu=64,
            gpu=("g6.xlarge", "g5.xlarge"),
            gpu_least=1,
            gpu_most=3,
        ),
        cache=CacheServer("cache.t4g.medium", replicas=1),
        vectors=VectorServer(peers=3, copies=2, pod=Pod(1000, 4096), disk_gib=50),
        models=ModelServer(
            "Qwen/Qwen2.5-7B-Instruct-AWQ", least=1, most=3, night_least=0, day_utc=(6, 20), pod=Pod(3000, 12288)
        ),
    ),
    Phase(
        name=PhaseName.MULTI_REGION,
        load=Load(leads_per_month=100_000, concurrent_conversations=1_000, documents=1_000_000),
        targets=Targets(answer_p50_s=0.3, answer_p99_s=1.0, failed_share=0.001),
        budget_usd_month=15_000,
        headroom=5,
        fleet=Fleet(Compute.EKS_MULTI_REGION, regions=_THREE_REGIONS, least=10, most=30, gpu_nodes=True),
        stores=Stores(Relational.AURORA_GLOBAL, 2, Cache.REDIS_CLUSTER, 3, Vectors.CLUSTER),
        server=DatabaseServer("db.r6g.xlarge", memory_gib=32, workers=20, poolers=3),
        network=Network(nats=3, endpoints=("ecr.api", "ecr.dkr")),
        nodes=Nodes(
            "t4g.medium",
            2,
            ("m7g.xlarge", "m6g.xlarge", "c7g.xlarge"),
            most_vcpu=128,
            gpu=("g6.xlarge", "g5.xlarge"),
            gpu_least=1,
            gpu_most=4,
        ),
        cache=CacheServer("cache.r7g.large", replicas=1),
        vectors=VectorServer(peers=3, copies=2, pod=Pod(1500, 8192), disk_gib=200),
        models=ModelServer(
            "Qwen/Qwen2.5-7B-Instruct-AWQ", least=1, most=4, night_least=1, day_utc=(6, 20), pod=Pod(3000, 12288)
        ),
    ),
)

PHASES: Final = MappingProxyType({phase.name: phase for phase in _ALL})
