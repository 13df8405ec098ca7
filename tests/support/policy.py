"""Cases of the rules: for each, a graph that keeps it and some that break it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.rules import RULES
from infra.recording import Graph, Resource
from tests.support.infra import graph, resource


@dataclass(frozen=True, slots=True)
class Case:
    """`breaks` are resources that are each wrong beside those of `beside`."""

    rule: str
    keeps: tuple[Resource, ...]
    breaks: tuple[Resource, ...]
    beside: tuple[Resource, ...] = ()


def said(rule: str, *resources: Resource) -> list[str]:
    return [finding.sentence for one in RULES if one.name == rule for finding in one(graph_of(*resources))]


def graph_of(*resources: Resource) -> Graph:
    return graph(*resources)


def aws(kind: str, name: str = "one", *, protect: bool = False, **inputs: Any) -> Resource:
    """`kind` as in `rds/instance:Instance`."""
    return resource(name, f"aws:{kind}", inputs=inputs, protect=protect)


def manifest(kind: str, name: str = "one", space: str = "trellis", **inputs: Any) -> Resource:
    """`kind` as in `core/v1:Service`; `labels` are the object's."""
    labels = inputs.pop("labels", {})
    whole = {"metadata": {"name": name, "namespace": space, "labels": labels}, **inputs}
    return resource(name, f"kubernetes:{kind}", inputs=whole)


DIGEST = "docker.io/library/one:1.0@sha256:" + "a" * 64
CONTAINER: Mapping[str, Any] = {
    "name": "one",
    "image": DIGEST,
    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"}},
    "livenessProbe": {"httpGet": {}},
    "readinessProbe": {"httpGet": {}},
    "securityContext": {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    },
}
SPREAD = [{"topologyKey": "topology.kubernetes.io/zone"}, {"topologyKey": "kubernetes.io/hostname"}]
POD: Mapping[str, Any] = {
    "automountServiceAccountToken": False,
    "serviceAccountName": "one",
    "priorityClassName": "standard",
    "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
    "topologySpreadConstraints": SPREAD,
}


def deployment(*, container: Mapping[str, Any] | None = None, replicas: int = 2, **pod: Any) -> Resource:
    """Right, but for what is said otherwise."""
    whole = {**POD, "containers": [{**CONTAINER, **(container or {})}], **pod}
    template = {"metadata": {"labels": {"app": "one"}}, "spec": whole}
    return manifest("apps/v1:Deployment", spec={"replicas": replicas, "template": template})


def budget(**given: Any) -> Resource:
    return manifest("policy/v1:PodDisruptionBudget", spec={"selector": {"matchLabels": {"app": "one"}}, **given})
