"""What a stack costs a month, by part, from dated list prices.

Read from the graph of what the stack asks for: machines, databases, disks. Nodes that Karpenter will make follow from
what the pods request. What only use decides (traffic, tokens) is reckoned from the phase's leads, by the assumptions
that `prices.yaml` states.
"""

from collections.abc import Sequence

from infra.costs import nodes, resources, usage
from infra.costs.line import Line, Part, Reckoner
from infra.layout import Layer, StackName
from infra.phases import PHASES
from infra.prices import Prices, load_prices
from infra.recording import Graph

__all__ = ["Line", "Part", "monthly", "total"]


def monthly(graph: Graph, prices: Prices | None = None) -> Sequence[Line]:
    """The stack's lines, the dearest first; none for a cluster that is the user's own.

    Raises InfraError for what has no price, and for a pod that fits no machine of its phase.
    """
    name = StackName.parse(graph.stack)
    if name.phase is None or name.layer is Layer.CLUSTER:
        return ()
    phase = PHASES[name.phase]
    reckoner = Reckoner(prices or load_prices(), name.region or phase.fleet.regions[0], phase)
    found = [
        *resources.lines(graph, reckoner),
        *nodes.lines(graph, reckoner),
        *usage.lines(graph, reckoner, name.layer),
    ]
    return sorted((line for line in found if line.usd_month), key=lambda line: (-line.usd_month, line.part, line.what))


def total(lines: Sequence[Line]) -> float:
    return sum(line.usd_month for line in lines)
