"""The machines that Karpenter will make for a stack's pods, and their disks.

Each type that the phase names is filled with the pods, the largest first into the first machine with room; the type
that costs least in all is taken. Karpenter may mix types, and so do a little better.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.costs.line import Line, Part, Reckoner
from infra.costs.pods import Pods, daemons, gibibytes, workloads
from infra.errors import InfraError
from infra.prices import Instance, Take
from infra.recording import Graph

_POOL: Final = "kubernetes:karpenter.sh/v1:NodePool"
_CLASS: Final = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
_CHART: Final = "kubernetes:helm.sh/v3:Release"
_CAPACITY: Final = "karpenter.sh/capacity-type"
_DAY: Final = 24
# What EKS's image keeps of a machine for itself: of cores 6 % of the first, 1 % of the second, 0.5 % of the third and
# fourth; of memory 255 MiB, 11 for each pod that it could hold, and 100 that are never used up.
_CORE_MILLIS: Final = (60, 10, 5, 5)
_KEPT_MIB: Final = 355
_POD_MIB: Final = 11
# Of the memory that a type is sold with, what its kernel hands out.
_SEEN: Final = 0.975
# The network's, kube-proxy, identity, volumes.
_OVERHEAD_PODS: Final = 4


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of an empty machine for our pods: thousandths of a core, MiB, pods."""

    cpu: float
    memory: float
    pods: int


def lines(graph: Graph, by: Reckoner) -> Iterable[Line]:
    found = workloads(graph)
    if found and by.phase.nodes is not None:
        yield from _general([pods for pods in found if not pods.gpus], graph, by)
        if any(pods.gpus for pods in found):
            yield from _gpu(graph, by)
    yield from _volumes(graph, by)


def room(instance: Instance, overhead: Take, daemon_pods: Sequence[Pods]) -> Room:
    cores = _CORE_MILLIS[: instance.vcpu]
    cpu = instance.vcpu * 1000 - sum(cores) - 2.5 * max(instance.vcpu - len(_CORE_MILLIS), 0)
    memory = instance.memory_gib * 1024 * _SEEN - _KEPT_MIB - _POD_MIB * instance.pods
    return Room(
        cpu - overhead.cpu - sum(pods.cpu for pods in daemon_pods),
        memory - overhead.memory - sum(pods.memory for pods in daemon_pods),
        instance.pods - len(daemon_pods) - _OVERHEAD_PODS,
    )


def machines(wanted: Sequence[tuple[float, float]], empty: Room) -> int | None:
    """How many hold pods of so many (thousandths of a core, MiB). None where one does not fit an empty machine."""
    filled: list[list[float]] = []
    for cpu, memory in sorted(wanted, reverse=True):
        if cpu > empty.cpu or memory > empty.memory:
            return None
        for left in filled:
            if left[0] >= cpu and left[1] >= memory and left[2] >= 1:
                break
        else:
            left = [empty.cpu, empty.memory, empty.pods]
            filled.append(left)
        left[0], left[1], left[2] = left[0] - cpu, left[1] - memory, left[2] - 1
    return len(filled)


def _general(found: Sequence[Pods], graph: Graph, by: Reckoner) -> Iterable[Line]:
    assumed = by.prices.assumptions
    least, expected = (cheapest(found, graph, by, scale) for scale in (0.0, assumed.scale))
    kind, many = expected
    what = f"{many} {kind} that Karpenter makes ({least[1]} {least[0]} at least)"
    yield _hours(by, Part.COMPUTE, what, kind, many, spot=_may_be_spot(graph, gpu=False))
    yield by.line(Part.COMPUTE, "their disks", "disk", many * _disk(graph), estimate=True)
    yield by.line(Part.NETWORK, "their images through NAT", "nat-traffic", many * assumed.node_nat_gb, estimate=True)


def cheapest(found: Sequence[Pods], graph: Graph, by: Reckoner, scale: float) -> tuple[str, int]:
    """The type and how many. Raises InfraError where a pod fits none."""
    assert by.phase.nodes is not None
    wanted = [(pods.cpu, pods.memory) for pods in found for _ in range(pods.expected(scale))]
    chart = by.prices.assumptions.chart
    wanted += [(chart.cpu, chart.memory)] * len(graph.of(_CHART))
    apart = max((pods.apart for pods in found), default=1)
    possible: list[tuple[float, str, int]] = []
    for kind in by.prices.offered(by.region, by.phase.nodes.general):
        many = machines(wanted, room(by.prices.instance(kind), by.prices.assumptions.node_overhead, daemons(graph)))
        if many is not None:
            many = max(many, apart)
            possible.append((many * by.price(f"instance/{kind}").usd, kind, many))
    if not possible:
        raise InfraError(_misfit(found, by))
    _usd, kind, many = min(possible)
    return kind, many


def _misfit(found: Sequence[Pods], by: Reckoner) -> str:
    assert by.phase.nodes is not None
    largest = max(found, key=lambda pods: (pods.memory, pods.cpu))
    return (
        f"The pod '{largest.name}' ({largest.cpu:g}m, {largest.memory:g} MiB) fits no machine of the phase "
        f"'{by.phase.name}' ({', '.join(by.phase.nodes.general)}): name a larger type in infra/phases.py."
    )


def _gpu(graph: Graph, by: Reckoner) -> Iterable[Line]:
    """Hours of a day: the phase's least by day and by night, and the assumed share of more by day."""
    nodes, models = by.phase.nodes, by.phase.models
    assert nodes is not None
    if models is None:
        raise InfraError(f"A pod asks for a GPU, but the phase '{by.phase.name}' has no models in infra/phases.py.")
    begin, end = models.day_utc
    day = (end - begin) % _DAY or _DAY
    expected = models.least + (models.most - models.least) * by.prices.assumptions.scale
    kinds = by.prices.offered(by.region, nodes.gpu)
    kind = min(kinds, key=lambda kind: by.price(f"instance/{kind}").usd)
    least, mean = ((day * many + (_DAY - day) * models.night_least) / _DAY for many in (models.least, expected))
    what = f"{mean:.2f} {kind} on average ({least:.2f} at least)"
    yield _hours(by, Part.GPU, what, kind, mean, spot=_may_be_spot(graph, gpu=True))
    yield by.line(Part.GPU, "their disks", "disk", mean * _disk(graph, gpu=True), estimate=True)


def _hours(by: Reckoner, part: Part, what: str, kind: str, many: float, *, spot: bool) -> Line:
    """On demand, or for the assumed share of hours on spot."""
    full = by.line(part, what, f"instance/{kind}", many, estimate=True)
    if not spot:
        return full
    share = by.prices.assumptions.spot_share
    cheap = by.line(part, what, f"spot/{kind}", many, estimate=True)
    usd = full.usd_month * (1 - share) + cheap.usd_month * share
    return Line(part, f"{what}, {share:.0%} of it spot", usd, estimate=True)


def _may_be_spot(graph: Graph, *, gpu: bool) -> bool:
    pools = (resource.inputs["spec"]["template"]["spec"] for resource in graph.of(_POOL))
    allowed = [
        need.get("values", ())
        for pool in pools
        if _is_gpu(pool) == gpu
        for need in pool.get("requirements", ())
        if need.get("key") == _CAPACITY
    ]
    return any("spot" in values for values in allowed)


def _is_gpu(pool: Mapping[str, Any]) -> bool:
    return any("gpu" in str(taint.get("key")) for taint in pool.get("taints", ()))


def _disk(graph: Graph, *, gpu: bool = False) -> float:
    """GiB of a node that Karpenter makes."""
    sizes = [
        sum(
            gibibytes((disk.get("ebs") or {}).get("volumeSize", 0))
            for disk in resource.inputs["spec"]["blockDeviceMappings"]
        )
        for resource in graph.of(_CLASS)
        if ("gpu" in str(resource.inputs["metadata"]["name"])) == gpu
        and "blockDeviceMappings" in resource.inputs["spec"]
    ]
    return max(sizes, default=0.0)


def _volumes(graph: Graph, by: Reckoner) -> Iterable[Line]:
    """Disks that pods ask for."""
    for resource in graph.of("kubernetes:apps/v1:StatefulSet"):
        spec, meta = resource.inputs["spec"], resource.inputs["metadata"]
        for claim in spec.get("volumeClaimTemplates", ()):
            yield _claimed(by, meta, claim["spec"], int(spec.get("replicas", 1)))
    for resource in graph.of("kubernetes:core/v1:PersistentVolumeClaim"):
        yield _claimed(by, resource.inputs["metadata"], resource.inputs["spec"], 1)


def _claimed(by: Reckoner, meta: Mapping[str, Any], claim: Mapping[str, Any], many: int) -> Line:
    size = gibibytes(claim["resources"]["requests"]["storage"])
    part = _PARTS.get(str(meta.get("namespace")), Part.OTHER)
    return by.line(part, f"{many} x {size:g} GiB of {meta['name']}", "disk", many * size)


_PARTS: Final = {
    "trellis-data": Part.VECTORS,
    "trellis-telemetry": Part.TELEMETRY,
    "trellis-models": Part.GPU,
}
