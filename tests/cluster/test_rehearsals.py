"""What an operator does and what befalls a cluster, rehearsed on the medium phase's workloads.

The controllers, the scheduler and the budgets are Kubernetes' own; only the machines are simulated. A pod of the API is
ready one second after it has started.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from infra.costs.nodes import room
from infra.prices import load_prices
from infra.regions import REGIONS
from tests.cluster.endpoints import Endpoints
from tests.cluster.karpenter import ZONE, simulate
from tests.cluster.rendered import Rendered
from tests.cluster.running import scale, start, until_ready
from tests.support.kubernetes import Kubernetes, Object
from tests.support.plane import READY_DELAY, Plane
from tests.support.plane_build import Built
from tests.support.processes import wait_until

NODE: Final = "m7g.xlarge"
NODES_A_ZONE: Final = 4
ZONES: Final = REGIONS["eu-central-1"].zones
NEW_IMAGE: Final = f"registry.example.com/trellis/app@sha256:{'2' * 64}"
SPACE: Final = "trellis"
BLUE: Final = f"/apis/apps/v1/namespaces/{SPACE}/deployments/api-blue"
SERVICE: Final = f"/api/v1/namespaces/{SPACE}/services/api"
SCALE_S: Final = 200.0
LOST: Final = {"key": "tests.trellis.dev/lost", "effect": "NoExecute"}
"""Ends every pod of a node at once, asking no budget: what a zone does that goes away."""


@dataclass(frozen=True)
class Running:
    """The medium phase at its least, blue live and green beside it, on machines in three zones."""

    api: Kubernetes
    rendered: Rendered
    served: Endpoints

    def wanted(self) -> int:
        return int(self.rendered.one("HorizontalPodAutoscaler", "api-blue")["spec"]["minReplicas"])


@pytest.fixture(scope="module")
def running(plane: Plane, built: Built, in_two_colours: Rendered) -> Running:
    prices = load_prices()
    of = room(prices.instance(NODE), prices.assumptions.node_overhead, ())
    for zone in ZONES:
        for number in range(NODES_A_ZONE):
            name = f"{zone}-{number}"
            simulate(plane.api, name, {ZONE: zone, "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}, (), of)
    start(plane, built, in_two_colours)
    scale(plane.api, in_two_colours, most=False)
    until_ready(plane.api, "the medium phase in two colours")
    return Running(plane.api, in_two_colours, Endpoints(plane.api, SPACE, "api"))


def test_a_rolling_update_leaves_no_gap_in_ready_endpoints(running: Running) -> None:
    before, mark, began = running.served.now(), running.served.mark(), time.monotonic()
    assert len(before) == running.wanted()
    told = {READY_DELAY: "1s", "kwok.x-k8s.io/usage-cpu": "1000m"}
    container = {"name": "api", "image": NEW_IMAGE}
    running.api.strategic(
        BLUE, {"spec": {"template": {"metadata": {"annotations": told}, "spec": {"containers": [container]}}}}
    )
    until_ready(running.api, "the new image runs everywhere")
    print(f"a rolling update of {len(before)} pods: {time.monotonic() - began:.1f} s")
    seen = mark.since()
    assert not before & seen[-1]
    assert min(map(len, seen)) >= running.wanted()


def test_a_switch_of_colours_and_back_takes_seconds_and_leaves_no_gap(running: Running) -> None:
    mark, times = running.served.mark(), []
    for colour in ("green", "blue"):
        began = time.monotonic()
        running.api.merge(SERVICE, {"spec": {"selector": {"colour": colour}}})
        wait_until(lambda colour=colour: _all_of(running.served.now(), colour), f"only {colour} answers", 10)
        times.append(time.monotonic() - began)
    print(f"to green {times[0]:.2f} s, back to blue {times[1]:.2f} s")
    seen = mark.since()
    assert any(_all_of(names, "green") for names in seen)
    assert min(map(len, seen)) >= running.wanted()


def _all_of(names: frozenset[str], colour: str) -> bool:
    return bool(names) and all(name.startswith(f"api-{colour}") for name in names)


def test_a_lost_zone_leaves_two_thirds_and_is_made_up_for_in_the_others(running: Running) -> None:
    mark, began = running.served.mark(), time.monotonic()
    lost = [f"{ZONES[1]}-{number}" for number in range(NODES_A_ZONE)]
    of_a_zone = -(-running.wanted() // len(ZONES))
    there = {pod["metadata"]["name"] for node in lost for pod in _evictable(running.api, node)}
    assert len(there & running.served.now()) <= of_a_zone
    try:
        for node in lost:
            running.api.merge(f"/api/v1/nodes/{node}", {"spec": {"taints": [LOST]}})
        wait_until(lambda: not any(_evictable(running.api, node) for node in lost), "the zone is empty")
        _until_deployments_are_whole(running.api)
        print(f"a zone lost, and its pods made up for in {time.monotonic() - began:.1f} s")
        # Peers whose volumes are in the zone wait for it; the others are more than half.
        vectors = running.api.get(running.api.path(running.rendered.one("StatefulSet", "qdrant"))) or {}
        assert vectors["status"]["readyReplicas"] * 2 > vectors["spec"]["replicas"]
    finally:
        for node in lost:
            running.api.merge(f"/api/v1/nodes/{node}", {"spec": {"taints": None}})
    until_ready(running.api, "all is whole after the zone is back")
    assert min(map(len, mark.since())) >= running.wanted() - of_a_zone


def test_nodes_are_drained_within_the_disruption_budgets(running: Running) -> None:
    mark, refused, began = running.served.mark(), 0, time.monotonic()
    drained = [f"{ZONES[0]}-{number}" for number in range(NODES_A_ZONE)]
    for node in drained:
        _cordon(running.api, node, on=True)
        try:
            refused += _drain(running.api, node)
            until_ready(running.api, f"all is whole without {node}")
        finally:
            _cordon(running.api, node, on=False)
    print(f"{len(drained)} nodes drained in {time.monotonic() - began:.1f} s; {refused} evictions had to wait")
    assert refused > 0
    assert min(map(len, mark.since())) >= running.wanted() - 1


def _cordon(api: Kubernetes, node: str, *, on: bool) -> None:
    api.merge(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": on or None}})


def _drain(api: Kubernetes, node: str) -> int:
    """Evicts until nothing but daemons is left; how often a budget said no."""
    refused, limit = 0, time.monotonic() + 60
    while pods := _evictable(api, node):
        said = [why for why in map(api.evict, pods) if why is not None]
        refused += len(said)
        assert time.monotonic() < limit, f"{node} cannot be drained: {said}"
        time.sleep(0.1)
    return refused


def _evictable(api: Kubernetes, node: str) -> Sequence[Object]:
    pods = api.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
    return [
        pod
        for pod in pods
        if pod["status"]["phase"] == "Running"
        and not any(owner["kind"] == "DaemonSet" for owner in pod["metadata"].get("ownerReferences") or ())
    ]


def _until_deployments_are_whole(api: Kubernetes) -> None:
    wait_until(lambda: not _broken(api.items("/apis/apps/v1/deployments")), "Deployments are whole", 60)


def _broken(deployments: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        one["metadata"]["name"]
        for one in deployments
        if one["status"].get("readyReplicas", 0) != one["spec"]["replicas"] or one["status"].get("unavailableReplicas")
    ]


def test_load_scales_the_api_to_its_most_and_every_pod_has_a_place(running: Running) -> None:
    scaler = running.rendered.one("HorizontalPodAutoscaler", "api-blue")
    most, began = scaler["spec"]["maxReplicas"], time.monotonic()
    # Each pod uses twice what it asks for (the annotation of the rolling update): no number of them is enough.
    running.api.apply(scaler)
    wait_until(lambda: _replicas(running.api) == most, f"there are {most} pods", SCALE_S)
    until_ready(running.api, f"{most} pods have a place")
    print(f"{running.wanted()} to {most} pods in {time.monotonic() - began:.1f} s")
    wait_until(lambda: len(running.served.now()) == most, f"{most} pods answer")


def _replicas(api: Kubernetes) -> int:
    return int((api.get(BLUE) or {})["status"].get("replicas", 0))
