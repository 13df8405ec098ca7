"""Every fault, in the order in which they are made."""

from tests.chaos.fault import Fault
from tests.chaos.faults.disk import DiskFull
from tests.chaos.faults.model import ModelFlaky, ModelGone, ModelResetting, ModelSlow

FAULTS: tuple[Fault, ...] = (ModelSlow(), ModelResetting(), ModelFlaky(), ModelGone(), DiskFull())
