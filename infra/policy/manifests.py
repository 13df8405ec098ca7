"""How the rules read Kubernetes objects in a graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra.recording import Graph, Resource

DAEMONS: Final = ("kubernetes:apps/v1:DaemonSet",)
REPLICATED: Final = ("kubernetes:apps/v1:Deployment", "kubernetes:apps/v1:StatefulSet")
JOBS: Final = ("kubernetes:batch/v1:Job", "kubernetes:batch/v1:CronJob")
SCALERS: Final = ("kubernetes:autoscaling/v2:HorizontalPodAutoscaler", "kubernetes:keda.sh/v1alpha1:ScaledObject")


@dataclass(frozen=True, slots=True)
class Workload:
    """A resource that makes pods. `least` and `most` are how many, by its own word or its autoscaler's."""

    resource: Resource
    pod: Mapping[str, Any]
    labels: Mapping[str, str]
    least: int
    most: int

    @property
    def namespace(self) -> str:
        return namespace(self.resource)

    @property
    def serves(self) -> bool:
        """Runs until it is told to stop."""
        return self.resource.type not in JOBS

    def containers(self) -> Sequence[Mapping[str, Any]]:
        """All of them, those that only prepare the pod too."""
        return [*(self.pod.get("initContainers") or ()), *self.lasting()]

    def lasting(self) -> Sequence[Mapping[str, Any]]:
        return list(self.pod.get("containers") or ())


def spec(resource: Resource) -> Mapping[str, Any]:
    return resource.inputs.get("spec") or {}


def meta(resource: Resource) -> Mapping[str, Any]:
    return resource.inputs.get("metadata") or {}


def namespace(resource: Resource) -> str:
    return str(meta(resource).get("namespace", "default"))


def workloads(graph: Graph) -> Sequence[Workload]:
    bounds = _bounds(graph)
    return [_workload(one, bounds) for one in graph.of(*REPLICATED, *DAEMONS, *JOBS)]


def _workload(resource: Resource, bounds: Mapping[tuple[str, str, str], tuple[int, int]]) -> Workload:
    template = _template(resource)
    own = int(spec(resource).get("replicas", 1))
    kind = resource.type.rpartition(":")[2]
    least, most = bounds.get((namespace(resource), kind, str(meta(resource).get("name"))), (own, own))
    return Workload(
        resource,
        template.get("spec") or {},
        (template.get("metadata") or {}).get("labels") or {},
        least,
        most,
    )


def _template(resource: Resource) -> Mapping[str, Any]:
    inner = spec(resource)
    if resource.type.endswith(":CronJob"):
        inner = (inner.get("jobTemplate") or {}).get("spec") or {}
    return inner.get("template") or {}


def _bounds(graph: Graph) -> Mapping[tuple[str, str, str], tuple[int, int]]:
    """By namespace, kind and name of what is scaled."""
    found = {}
    for one in graph.of(*SCALERS):
        target = spec(one).get("scaleTargetRef") or {}
        found[namespace(one), target.get("kind", "Deployment"), str(target.get("name"))] = bounds(one)
    return found


def bounds(scaler: Resource) -> tuple[int, int]:
    """Least and most, with what Kubernetes and KEDA take where nothing is said."""
    given = spec(scaler)
    if scaler.type.endswith(":ScaledObject"):
        return int(given.get("minReplicaCount", 0)), int(given.get("maxReplicaCount", 100))
    return int(given.get("minReplicas", 1)), int(given.get("maxReplicas", 1))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """By labels alone; an empty selector means everything."""
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expressed(one, labels) for one in selector.get("matchExpressions") or ()
    )


def _expressed(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return bool((key in labels) == (operator == "Exists"))
    return bool((labels.get(key) in expression["values"]) == (operator == "In"))
