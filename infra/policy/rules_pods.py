"""What every pod keeps."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.policy.finding import Said, rule
from infra.policy.manifests import REPLICATED, Workload, meta, spec, workloads
from infra.recording import Graph

_PSS: Final = "Kubernetes Pod Security Standards, restricted"
_DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")
_ZONE: Final = "topology.kubernetes.io/zone"
_HOST: Final = "kubernetes.io/hostname"
_CLASS: Final = "kubernetes:scheduling.k8s.io/v1:PriorityClass"

_Each = Iterator[tuple[Workload, Mapping[str, Any]]]


def _every(graph: Graph) -> _Each:
    for one in workloads(graph):
        for container in one.containers():
            yield one, container


def _secured(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return container.get("securityContext") or {}


@rule("requests-and-limits", "EKS best practices, reliability: data plane")
def requests_and_limits(graph: Graph) -> Said:
    """A limit on the processor only slows a pod down: none is asked for."""
    for one, container in _every(graph):
        given = container.get("resources") or {}
        asked, most = given.get("requests") or {}, given.get("limits") or {}
        missing = [f"requests.{key}" for key in ("cpu", "memory") if key not in asked]
        missing += [] if "memory" in most else ["limits.memory"]
        if missing:
            yield one.resource, f"The container '{container['name']}' says no {', '.join(missing)}: give it."


@rule("probes", "EKS best practices, reliability: application")
def probes(graph: Graph) -> Said:
    for one in workloads(graph):
        for container in one.lasting() if one.serves else ():
            for probe in ("livenessProbe", "readinessProbe"):
                if not container.get(probe):
                    yield one.resource, f"The container '{container['name']}' has no {probe}: give it one."


@rule("non-root", _PSS)
def non_root(graph: Graph) -> Said:
    for one, container in _every(graph):
        both = {**(one.pod.get("securityContext") or {}), **_secured(container)}
        if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
            yield one.resource, f"The container '{container['name']}' may run as root: set runAsNonRoot and a user."


@rule("read-only-root", "CIS Kubernetes, NSA Kubernetes hardening guide")
def read_only_root(graph: Graph) -> Said:
    for one, container in _every(graph):
        if _secured(container).get("readOnlyRootFilesystem") is not True:
            yield one.resource, f"The container '{container['name']}' can write its root: make it read-only."


@rule("capabilities", _PSS)
def capabilities(graph: Graph) -> Said:
    for one, container in _every(graph):
        given = _secured(container)
        held = given.get("capabilities") or {}
        added = set(held.get("add") or ()) - {"NET_BIND_SERVICE"}
        if "ALL" not in (held.get("drop") or ()) or added:
            yield one.resource, f"The container '{container['name']}' keeps capabilities: drop ALL and add none."
        if given.get("allowPrivilegeEscalation") is not False or given.get("privileged"):
            yield one.resource, f"The container '{container['name']}' can gain rights: forbid privilege escalation."


@rule("seccomp", _PSS)
def seccomp(graph: Graph) -> Said:
    for one, container in _every(graph):
        both = {**(one.pod.get("securityContext") or {}), **_secured(container)}
        if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield one.resource, f"The container '{container['name']}' has no seccomp profile: take RuntimeDefault."


@rule("host", _PSS)
def host(graph: Graph) -> Said:
    for one in workloads(graph):
        used = [key for key in ("hostNetwork", "hostPID", "hostIPC") if one.pod.get(key)]
        used += [f"hostPath {volume['name']}" for volume in one.pod.get("volumes") or () if volume.get("hostPath")]
        if used:
            yield one.resource, f"Its pods use the machine's own {', '.join(used)}: leave that out."


@rule("digests", "CIS Kubernetes 5.5; SLSA")
def digests(graph: Graph) -> Said:
    for one, container in _every(graph):
        image = str(container.get("image", ""))
        if not _DIGEST.fullmatch(image):
            yield one.resource, f"The image '{image}' has no digest: write it in infra/versions.py."
        name = image.partition("@")[0].rpartition("/")[2]
        if name.endswith(":latest") or ("@" not in image and ":" not in name):
            yield one.resource, f"The image '{image}' is whatever is newest: name its version."


@rule("automount", "CIS Kubernetes 5.1.6")
def automount(graph: Graph) -> Said:
    for one in workloads(graph):
        if one.pod.get("automountServiceAccountToken") is not False:
            yield one.resource, "Its pods get a token of the API server: set automountServiceAccountToken to false."
    for account in graph.of("kubernetes:core/v1:ServiceAccount"):
        if account.inputs.get("automountServiceAccountToken") is not False:
            yield account, "Pods of it get a token of the API server: set automountServiceAccountToken to false."


@rule("accounts", "CIS Kubernetes 5.1.5")
def accounts(graph: Graph) -> Said:
    for one in workloads(graph):
        if one.pod.get("serviceAccountName", "default") == "default":
            yield one.resource, "Its pods run as the namespace's default account: give it one of its own."


@rule("spread", "EKS best practices, reliability: application")
def spread(graph: Graph) -> Said:
    for one in workloads(graph):
        if one.resource.type not in REPLICATED or one.most < 2:
            continue
        missing = {_ZONE, _HOST} - _spread_over(one.pod)
        if missing:
            yield one.resource, f"Its pods are not spread by {', '.join(sorted(missing))}: add a constraint."


def _spread_over(pod: Mapping[str, Any]) -> set[str]:
    apart = (pod.get("affinity") or {}).get("podAntiAffinity") or {}
    terms = [
        *(apart.get("requiredDuringSchedulingIgnoredDuringExecution") or ()),
        *(one["podAffinityTerm"] for one in apart.get("preferredDuringSchedulingIgnoredDuringExecution") or ()),
    ]
    return {one["topologyKey"] for one in (*terms, *(pod.get("topologySpreadConstraints") or ()))}


@rule("priority", "EKS best practices, cost and reliability: scheduling")
def priority(graph: Graph) -> Said:
    for one in workloads(graph):
        if not one.pod.get("priorityClassName"):
            yield one.resource, "Its pods have no priority class: say which pods go first."


@rule("volumes", "Kubernetes: pod priority and preemption; topology spread constraints")
def volumes(graph: Graph) -> Said:
    """A pod that was preempted comes back where its volume is; a sibling may have taken that zone by then, and a strict
    spread then lets it in nowhere."""
    classes = {str(meta(one).get("name")): one.inputs for one in graph.of(_CLASS)}
    for one in workloads(graph):
        own = classes.get(str(one.pod.get("priorityClassName")))
        if own is None or not spec(one.resource).get("volumeClaimTemplates") or not _strict_zones(one.pod):
            continue
        above = [name for name, other in classes.items() if _preempts(other, own)]
        if above:
            yield (
                one.resource,
                f"Pods of {', '.join(sorted(above))} preempt its pods, which a strict spread may not let back to their "
                "volumes' zone: give it a class that nothing preempts.",
            )


def _preempts(other: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return int(other["value"]) > int(own["value"]) and other.get("preemptionPolicy") != "Never"


def _strict_zones(pod: Mapping[str, Any]) -> bool:
    return any(
        one["topologyKey"] == _ZONE and one.get("whenUnsatisfiable") == "DoNotSchedule"
        for one in pod.get("topologySpreadConstraints") or ()
    )


def _values(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in container.get("env") or ():
        if isinstance(variable.get("value"), str):
            yield str(variable["name"]), variable["value"]


_SECRET_NAME: Final = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|_KEY|CREDENTIALS)$")
_IN_URL: Final = re.compile(r"://[^/@\s:]*:(?!\$\()[^/@\s]+@")


@rule("secret-variables", "CIS Kubernetes 5.4", offline=True)
def secret_variables(graph: Graph) -> Said:
    for one, container in _every(graph):
        for name, value in _values(container):
            plain = value and not value.startswith("$(") and value != "[secret]"
            if (plain and _SECRET_NAME.search(name)) or _IN_URL.search(value):
                yield one.resource, f"The variable '{name}' holds a secret as text: take it from a Secret."
