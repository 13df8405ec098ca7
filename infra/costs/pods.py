"""The pods that a stack asks for, and what each of them requests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.errors import InfraError
from infra.recording import Graph, Resource

_KINDS: Final = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet")
_DAEMONS: Final = "kubernetes:apps/v1:DaemonSet"
_SCALERS: Final = ("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "kubernetes:keda.sh/v1alpha1:ScaledObject")
_GPU: Final = "nvidia.com/gpu"
_ZONE: Final = "topology.kubernetes.io/zone"
_HOST: Final = "kubernetes.io/hostname"
_UNITS: Final[Mapping[str, float]] = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True, slots=True)
class Pods:
    """A workload. `cpu` in thousandths of a core, `memory` in MiB, of one pod. `apart`: on as many nodes as there are
    pods, up to three where only their zones are told apart."""

    name: str
    cpu: float
    memory: float
    gpus: int
    least: int
    most: int
    apart: int

    def expected(self, scale: float) -> int:
        """Pods at that share of the way up, rounded to the nearest."""
        return self.least + round((self.most - self.least) * scale)


def workloads(graph: Graph) -> Sequence[Pods]:
    """Deployments and StatefulSets, with the bounds of what scales them."""
    bounds = _bounds(graph)
    return [_pods(resource, bounds) for resource in graph.of(*_KINDS)]


def daemons(graph: Graph) -> Sequence[Pods]:
    """One pod on every node, but those that only GPU nodes have."""
    found = (_pods(resource, {}) for resource in graph.of(_DAEMONS) if not _gpu_only(resource))
    return list(found)


def gibibytes(quantity: object) -> float:
    return amount(quantity) / 2**30


def amount(quantity: object) -> float:
    """A Kubernetes quantity: `500m`, `2`, `640Mi`. Raises InfraError for another text."""
    text = str(quantity)
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        if text.endswith("m"):
            return float(text[:-1]) / 1000
        return float(text.removesuffix(unit)) * _UNITS.get(unit, 1)
    except ValueError:
        raise InfraError(f"'{text}' is no Kubernetes quantity: write 500m, 2, 640Mi or 1Gi.") from None


def _pods(resource: Resource, bounds: Mapping[tuple[str, str], tuple[int, int]]) -> Pods:
    spec = resource.inputs["spec"]
    pod = spec["template"]["spec"]
    replicas = int(spec.get("replicas", 1))
    least, most = bounds.get(_identity(resource), (replicas, replicas))
    cpu, memory = requested(pod, "cpu") * 1000, requested(pod, "memory") / 2**20
    gpus = int(requested(pod, _GPU))
    return Pods(_identity(resource)[1], cpu, memory, gpus, least, most, _apart(pod, most))


def requested(pod: Mapping[str, Any], what: str) -> float:
    """As the scheduler counts: all containers together, or the largest that runs before them. A sidecar that starts
    first (an init container that is always restarted) is one of them."""
    first = pod.get("initContainers", ())
    sidecars = [one for one in first if one.get("restartPolicy") == "Always"]
    together = sum(_of(one, what) for one in [*pod["containers"], *sidecars])
    return max([together, *(_of(one, what) for one in first if one not in sidecars)])


def _of(container: Mapping[str, Any], what: str) -> float:
    resources = container.get("resources") or {}
    # What has a limit alone requests as much.
    requests = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return amount(requests.get(what, 0))


def _apart(pod: Mapping[str, Any], pods: int) -> int:
    affinity = ((pod.get("affinity") or {}).get("podAntiAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution", ()
    )
    strict = [spread for spread in pod.get("topologySpreadConstraints", ()) if _is_strict(spread)]
    keys = {str(one["topologyKey"]) for one in (*affinity, *strict)}
    return max(pods if _HOST in {str(one["topologyKey"]) for one in affinity} else 0, min(pods, 3) if keys else 0, 1)


def _is_strict(spread: Mapping[str, Any]) -> bool:
    return spread.get("whenUnsatisfiable") == "DoNotSchedule" and spread.get("topologyKey") in (_ZONE, _HOST)


def _bounds(graph: Graph) -> Mapping[tuple[str, str], tuple[int, int]]:
    return dict(_scaled(graph.of(*_SCALERS)))


def _scaled(scalers: Iterable[Resource]) -> Iterable[tuple[tuple[str, str], tuple[int, int]]]:
    for scaler in scalers:
        spec = scaler.inputs["spec"]
        least = int(spec.get("minReplicas", spec.get("minReplicaCount", 1)))
        most = int(spec.get("maxReplicas", spec.get("maxReplicaCount", least)))
        yield (_identity(scaler)[0], str(spec["scaleTargetRef"]["name"])), (least, most)


def _identity(resource: Resource) -> tuple[str, str]:
    meta = resource.inputs.get("metadata") or {}
    return str(meta.get("namespace", "")), str(meta.get("name", resource.name))


def _gpu_only(resource: Resource) -> bool:
    pod = resource.inputs["spec"]["template"]["spec"]
    text = repr(pod.get("nodeSelector")) + repr((pod.get("affinity") or {}).get("nodeAffinity"))
    return requested(pod, _GPU) > 0 or "gpu" in text
