"""Every fault, in the order in which they are made."""

from tests.chaos.fault import Fault
from tests.chaos.faults.disk import DiskFull
from tests.chaos.faults.model import ModelFlaky, ModelGone, ModelResetting, ModelSlow
from tests.chaos.faults.postgres import PoolerKilled, PrimaryKilled, ReplicaBehind
from tests.chaos.faults.qdrant import QdrantGone, QdrantSlow
from tests.chaos.faults.redis import RedisMasterKilled, RedisSilent
from tests.chaos.faults.worker import WorkerKilled

FAULTS: tuple[Fault, ...] = (
    PrimaryKilled(),
    ReplicaBehind(),
    PoolerKilled(),
    RedisMasterKilled(),
    RedisSilent(),
    QdrantSlow(),
    QdrantGone(),
    ModelSlow(),
    ModelResetting(),
    ModelFlaky(),
    ModelGone(),
    WorkerKilled(),
    DiskFull(),
)
