"""Every fault, in the order in which they are made."""

from tests.chaos.fault import Fault
from tests.chaos.faults.disk import DiskFull
from tests.chaos.faults.model import ModelFlaky, ModelGone, ModelResetting, ModelSlow
from tests.chaos.faults.postgres import PoolerKilled, PrimaryKilled, ReplicaBehind

FAULTS: tuple[Fault, ...] = (
    PrimaryKilled(),
    ReplicaBehind(),
    PoolerKilled(),
    ModelSlow(),
    ModelResetting(),
    ModelFlaky(),
    ModelGone(),
    DiskFull(),
)
