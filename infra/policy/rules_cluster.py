"""What a cluster's objects keep together: namespaces, budgets, scalers, rights."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from infra.policy.finding import Said, rule
from infra.policy.manifests import (
    DAEMONS,
    REPLICATED,
    SCALERS,
    Workload,
    bounds,
    meta,
    namespace,
    selects,
    spec,
    workloads,
)
from infra.policy.quantities import amount, may_go
from infra.recording import Graph, Resource

_BUDGET: Final = "kubernetes:policy/v1:PodDisruptionBudget"
_QUOTA: Final = "kubernetes:core/v1:ResourceQuota"
_NAMESPACE: Final = "kubernetes:core/v1:Namespace"
_RELIABILITY: Final = "EKS best practices, reliability: application"
_ROLES: Final = (
    "kubernetes:rbac.authorization.k8s.io/v1:ClusterRole",
    "kubernetes:rbac.authorization.k8s.io/v1:Role",
)
_BINDINGS: Final = tuple(f"{role}Binding" for role in _ROLES)


def _budgets(graph: Graph, one: Workload) -> Sequence[Resource]:
    return [
        budget
        for budget in graph.of(_BUDGET)
        if namespace(budget) == one.namespace and selects(spec(budget).get("selector") or {}, one.labels)
    ]


@rule("disruption", _RELIABILITY)
def disruption(graph: Graph) -> Said:
    """A node can always be drained, and never takes all pods of a thing with it."""
    for one in workloads(graph):
        if one.resource.type not in REPLICATED:
            continue
        budgets = _budgets(graph, one)
        if one.most > 1 and not budgets:
            yield one.resource, "It has several pods and no PodDisruptionBudget: give it one."
        if len(budgets) > 1:
            yield one.resource, "Several PodDisruptionBudgets mean its pods, and none can be evicted: leave one."
        for budget in budgets:
            yield from _effective(budget, one.least)


def _effective(budget: Resource, replicas: int) -> Iterator[tuple[Resource, str]]:
    going = may_go(spec(budget), replicas)
    if replicas and going < 1:
        yield budget, f"It lets none of {replicas} pods go, so that no node can be drained: let one go."
    if replicas > 1 and going >= replicas:
        yield budget, f"It lets all {replicas} pods go at once: keep one."


@rule("scaling", _RELIABILITY)
def scaling(graph: Graph) -> Said:
    for one in graph.of(*SCALERS):
        least, most = bounds(one)
        if least < 2:
            yield one, f"It may leave {least} pods: keep two, so that one can go."
        if most < least:
            yield one, f"Its most ({most}) is less than its least ({least}): turn them around."


def _inhabited(graph: Graph) -> Mapping[str, Resource]:
    """Namespaces with pods of ours, or that we make, each with a resource to speak of."""
    found = {one.namespace: one.resource for one in workloads(graph)}
    return {**found, **{str(meta(one).get("name")): one for one in graph.of(_NAMESPACE)}}


@rule("network-policies", "CIS Kubernetes 5.3.2")
def network_policies(graph: Graph) -> Said:
    closed = {
        namespace(one)
        for one in graph.of("kubernetes:networking.k8s.io/v1:NetworkPolicy")
        if not any((spec(one).get("podSelector") or {}).values())
        and {"Ingress", "Egress"} <= {*(spec(one).get("policyTypes") or ())}
        and not spec(one).get("ingress")
        and not spec(one).get("egress")
    }
    for name, one in _inhabited(graph).items():
        if name not in closed:
            yield one, f"The namespace '{name}' lets everything in and out: add a NetworkPolicy that denies both."


@rule("pod-security", "Kubernetes Pod Security Admission")
def pod_security(graph: Graph) -> Said:
    for one in graph.of(_NAMESPACE):
        level = (meta(one).get("labels") or {}).get("pod-security.kubernetes.io/enforce")
        if level != "restricted":
            yield one, f"It enforces {level or 'no'} pod security: label it restricted."


@rule("quotas", "EKS best practices, security: multi-tenancy")
def quotas(graph: Graph) -> Said:
    """What all workloads ask for at their most, surge of a release not counted, fits."""
    for quota in graph.of(_QUOTA):
        there = [one for one in workloads(graph) if one.namespace == namespace(quota)]
        for key, limit in (spec(quota).get("hard") or {}).items():
            wanted = sum((_wanted(one, key) for one in there), Decimal(0))
            if wanted > amount(limit):
                yield quota, f"{key}: workloads want {wanted:f} at most and {limit} is allowed: raise it."


def _wanted(one: Workload, key: str) -> Decimal:
    """Of a quota's key, for all pods; a DaemonSet is counted once, as nobody knows how many nodes there will be."""
    pods = 1 if one.resource.type in DAEMONS else one.most
    if key == "pods":
        return Decimal(pods)
    side, _, name = key.partition(".")
    if side not in ("requests", "limits") or name not in ("cpu", "memory"):
        return Decimal(0)
    return pods * sum((_of(container, side, name) for container in one.lasting()), Decimal(0))


def _of(container: Mapping[str, Any], side: str, name: str) -> Decimal:
    return amount(((container.get("resources") or {}).get(side) or {}).get(name, 0))


@rule("rights", "CIS Kubernetes 5.1.1, 5.1.3")
def rights(graph: Graph) -> Said:
    for one in graph.of(*_BINDINGS):
        if (one.inputs.get("roleRef") or {}).get("name") == "cluster-admin":
            yield one, "It gives all rights of the cluster: write a role with what is needed."
    for one in graph.of(*_ROLES):
        for given in one.inputs.get("rules") or ():
            if any("*" in (given.get(key) or ()) for key in ("apiGroups", "resources", "verbs")):
                yield one, "A rule of it means everything (*): name groups, resources and verbs."


@rule("way-in", "EKS best practices, security: network")
def way_in(graph: Graph) -> Said:
    """Users come by the edge that the infra stacks make."""
    for one in graph.of("kubernetes:core/v1:Service"):
        kind = spec(one).get("type", "ClusterIP")
        if kind in ("LoadBalancer", "NodePort"):
            yield one, f"A Service of type {kind} is a way in past the edge: make it ClusterIP."
    for one in graph.of("kubernetes:networking.k8s.io/v1:Ingress"):
        if not spec(one).get("tls"):
            yield one, "It has no TLS: name a certificate's Secret."


@rule("charts", "SLSA; EKS best practices, security: images")
def charts(graph: Graph) -> Said:
    for one in graph.of("kubernetes:helm.sh/v3:Release"):
        if not one.inputs.get("version"):
            yield one, "It takes whichever chart is newest: name its version in infra/versions.py."


@rule("kubernetes-secrets", "CIS Kubernetes 5.4", offline=True)
def kubernetes_secrets(graph: Graph) -> Said:
    for one in graph.of("kubernetes:core/v1:Secret"):
        for key in ("data", "stringData"):
            if one.inputs.get(key) and not any(path.split(".")[0] == key for path in one.secrets):
                yield one, f"Its {key} is no Pulumi secret: mark it, or let External Secrets bring it."
