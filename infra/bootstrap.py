"""The few nodes that hold what makes all the others: how pods find them, and what keeps the rest away.

Pure data: the cell makes the nodes, the workloads name them.
"""

from collections.abc import Mapping
from typing import Final

LABELS: Final[Mapping[str, str]] = {"trellis.dev/pool": "bootstrap"}
TAINT: Final = "trellis.dev/bootstrap"
"""Tolerated only by what a cluster cannot start without: Karpenter, DNS, the controllers of network and volumes."""
