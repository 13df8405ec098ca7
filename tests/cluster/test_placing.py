"""The pods of every phase, at their least and at their most, on nodes of the types that the phase pays for.

Each phase has a plane of its own. Nodes come as Karpenter would make them, within the limits of the stack's own pools;
the scheduler is Kubernetes', and what it cannot place fails with its reason.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from infra.costs.line import Reckoner
from infra.costs.nodes import cheapest
from infra.costs.pods import requested, workloads
from infra.phases import PhaseName
from infra.prices import load_prices
from tests.cluster.karpenter import GPU, Karpenter
from tests.cluster.rendered import CLUSTER_PHASES, Rendered, apps_of, phase_of
from tests.cluster.running import place, scale, start, unfinished
from tests.support.kubernetes import Kubernetes
from tests.support.plane import Plane, running_plane
from tests.support.plane_build import Built
from tests.support.processes import wait_until

UNCOUNTED: Final = 2
"""Nodes that a bill's arithmetic may miss: volumes and strict spreads bind pods to zones, and there are two others."""
TOO_BIG: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "too-big", "namespace": "default"},
    "spec": {
        "containers": [{"name": "one", "image": "one", "resources": {"requests": {"cpu": "1", "memory": "100Gi"}}}]
    },
}


@dataclass(frozen=True)
class Placed:
    """A phase's workloads at their least, and what makes more nodes for them."""

    plane: Plane
    rendered: Rendered
    karpenter: Karpenter
    at_least: Mapping[str, tuple[str, ...]]


@pytest.fixture(scope="module", params=CLUSTER_PHASES)
def placed(
    request: pytest.FixtureRequest,
    built: Built,
    stacks: Mapping[str, Rendered],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Placed]:
    phase: PhaseName = request.param
    with running_plane(built, tmp_path_factory.mktemp(phase)) as plane:
        rendered = stacks[apps_of(phase)]
        karpenter = Karpenter(plane.api, rendered)
        start(plane, built, rendered)
        scale(plane.api, rendered, most=False)
        place(karpenter, plane.api)
        yield Placed(plane, rendered, karpenter, _made(karpenter))


def _made(karpenter: Karpenter) -> Mapping[str, tuple[str, ...]]:
    return {pool: tuple(types) for pool, types in karpenter.made.items()}


def _counted(rendered: Rendered, scale: float) -> int:
    """Nodes of the general pool in the plan's cost, so far up from the least (0) to the most (1)."""
    by = Reckoner(load_prices(), rendered.region, phase_of(rendered))
    return cheapest([pods for pods in workloads(rendered.graph) if not pods.gpus], rendered.graph, by, scale)[1]


def test_at_its_least_a_phase_runs_on_as_many_nodes_as_its_cost_counts(placed: Placed) -> None:
    counted = _counted(placed.rendered, 0.0)
    print(f"{placed.rendered.graph.stack}: {_shown(placed.at_least)} at its least, {counted} counted")
    assert len(placed.at_least["general"]) <= counted + UNCOUNTED


def test_at_its_most_every_pod_has_a_place_within_the_limits_of_the_pools(placed: Placed) -> None:
    api, rendered = placed.plane.api, placed.rendered
    scale(api, rendered, most=True)
    wait_until(lambda: _all_made(api, rendered), "pods for the most are made")
    place(placed.karpenter, api)
    made, counted = _made(placed.karpenter), _counted(rendered, 1.0)
    print(f"{rendered.graph.stack}: {_shown(made)} at its most, {counted} counted")
    models = phase_of(rendered).models
    if models is not None:
        assert _gpu_pods(api) == models.most
        assert len(made["gpu"]) == models.most


def test_what_fits_no_node_is_named_with_the_schedulers_reason(placed: Placed) -> None:
    api = placed.plane.api
    api.apply(TOO_BIG)
    try:
        wait_until(lambda: any("too-big" in line for line in unfinished(api)), "it is asked for")
        with pytest.raises(AssertionError, match=r"default/too-big.*Insufficient memory"):
            place(placed.karpenter, api)
    finally:
        api.delete(api.path(TOO_BIG))


def _all_made(api: Kubernetes, rendered: Rendered) -> bool:
    """Each scaled workload has as many pods as its most, placed or not."""
    for (namespace, name), (_least, most) in rendered.bounds().items():
        found = api.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
        if found is not None and found.get("status", {}).get("replicas", 0) != most:
            return False
    return True


def _gpu_pods(api: Kubernetes) -> int:
    pods = api.items("/api/v1/pods?fieldSelector=status.phase%3DRunning")
    return sum(requested(pod["spec"], GPU) > 0 for pod in pods)


def _shown(made: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{pool}: {len(types)} {'/'.join(sorted(set(types)))}" for pool, types in made.items())
