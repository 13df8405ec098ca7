"""A stack's workloads on a plane: made, scaled, and what of them is not as it should be, with the reason."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from infra.prices import load_prices
from tests.cluster.definitions import define
from tests.cluster.karpenter import Karpenter, reason
from tests.cluster.rendered import Rendered
from tests.support.kubernetes import Kubernetes, Object, is_ready
from tests.support.plane import Plane
from tests.support.plane_build import Built
from tests.support.processes import wait_until

SCALED: Final = ("Deployment", "StatefulSet")
SCALERS: Final = ("HorizontalPodAutoscaler", "ScaledObject")
READY_S: Final = 120.0
_RESTRICTED: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def start(plane: Plane, built: Built, rendered: Rendered, *, without: Sequence[str] = SCALERS) -> None:
    """Everything that the stack asks for, but kinds that would scale what the test scales by itself."""
    define(plane, built.definitions, rendered.objects)
    for manifest in rendered.objects:
        if manifest["kind"] not in without:
            plane.api.apply(manifest)
    for chart in rendered.charts():
        plane.api.apply(_stand_in(chart))


def scale(api: Kubernetes, rendered: Rendered, *, most: bool) -> None:
    """All that is scaled, to its least or its most."""
    bounds = rendered.bounds()
    for manifest in rendered.of_kind(*SCALED):
        meta = manifest["metadata"]
        found = bounds.get((meta["namespace"], meta["name"]))
        if found is not None:
            api.scale(api.path(manifest), found[most])


def until_ready(api: Kubernetes, what: str, timeout_s: float = READY_S) -> None:
    """Until nothing is unfinished. Raises AssertionError with every reason."""
    try:
        wait_until(lambda: not unfinished(api), what, timeout_s)
    except AssertionError as error:
        raise AssertionError(f"{error}\n" + "\n".join(unfinished(api))) from None


def place(karpenter: Karpenter, api: Kubernetes) -> None:
    """Until every workload is whole. What preempts others sends them to look for a place again, so it goes on."""
    limit = time.monotonic() + READY_S
    while missing := unfinished(api):
        without = [reason(pod) for pod in karpenter.place()]
        assert not without, "no node that the phase pays for takes:\n" + "\n".join(without)
        assert time.monotonic() < limit, "\n".join(missing)
        time.sleep(0.1)


def unfinished(api: Kubernetes) -> Sequence[str]:
    """A sentence for each workload that is not whole, and the scheduler's reason for each pod without a node."""
    return [*_scaled(api), *_jobs(api), *(reason(pod) for pod in _pods(api) if not pod["spec"].get("nodeName"))]


def _scaled(api: Kubernetes) -> Iterable[str]:
    for plural in ("deployments", "statefulsets"):
        for one in api.items(f"/apis/apps/v1/{plural}"):
            status, wanted = one.get("status", {}), one["spec"]["replicas"]
            current = status.get("observedGeneration") == one["metadata"]["generation"]
            counts = (status.get("readyReplicas", 0), status.get("updatedReplicas", 0), status.get("replicas", 0))
            if not current or counts != (wanted, wanted, wanted):
                yield f"{_name(one)}: {counts[0]} of {wanted} are ready{_why(one)}"
    for one in api.items("/apis/apps/v1/daemonsets"):
        status = one.get("status", {})
        if status.get("numberReady", 0) != status.get("desiredNumberScheduled", -1):
            yield f"{_name(one)}: {status.get('numberReady', 0)} of {status.get('desiredNumberScheduled')} are ready"


def _jobs(api: Kubernetes) -> Iterable[str]:
    for one in api.items("/apis/batch/v1/jobs"):
        if not is_ready(one, "Complete"):
            yield f"{_name(one)}: not complete{_why(one)}"


def _pods(api: Kubernetes) -> Sequence[Object]:
    return api.items("/api/v1/pods?fieldSelector=status.phase%3DPending")


def _why(one: Object) -> str:
    """What its controller says of pods that could not even be made: a quota, the namespace's security."""
    conditions: Sequence[Mapping[str, Any]] = one.get("status", {}).get("conditions") or ()
    said = [str(found.get("message")) for found in conditions if found["type"] in ("ReplicaFailure", "Failed")]
    return f" ({'; '.join(said)})" if said else ""


def _name(one: Object) -> str:
    return f"{one['metadata']['namespace']}/{one['metadata']['name']}"


def _stand_in(chart: Mapping[str, Any]) -> Object:
    """A chart's pods, which no plan shows: as many as its values say and of their size, or of the size that the cost
    assumes. A device plugin runs on each node that it is for."""
    values, name = chart.get("values") or {}, str(chart["name"])
    daemon = name.endswith("device-plugin")
    labels = {"stands-in-for": name}
    container = {
        "name": "operator",
        "image": f"stand-in/{name}",
        "resources": {"requests": _requests(values)},
        "securityContext": _RESTRICTED,
    }
    pod = {
        "containers": [container],
        "nodeSelector": values.get("nodeSelector") or {},
        "tolerations": values.get("tolerations") or [],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet" if daemon else "Deployment",
        "metadata": {"name": f"stand-in-{name}", "namespace": chart["namespace"]},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **({} if daemon else {"replicas": values.get("replicas", 1)}),
        },
    }


def _requests(values: Mapping[str, Any]) -> Mapping[str, str]:
    for place in (values.get("controller"), values):
        found = ((place or {}).get("resources") or {}).get("requests")
        if found:
            return dict(found)
    assumed = load_prices().assumptions.chart
    return {"cpu": f"{assumed.cpu:g}m", "memory": f"{assumed.memory:g}Mi"}
