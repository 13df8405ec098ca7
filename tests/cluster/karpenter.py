"""Nodes as Karpenter would make them, of a stack's own pools and within their limits, for pods that have no place.

Which type a batch of pods gets is decided as the plan's cost decides it (infra/costs/nodes.py); whether they really fit
is the scheduler's word. The nodes themselves are simulated: kwok answers for them.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from infra import bootstrap
from infra.costs.nodes import Room, machines, room
from infra.costs.pods import Pods, amount, daemons, requested
from infra.prices import Prices, load_prices
from infra.regions import region
from tests.cluster.rendered import Rendered, phase_of
from tests.support.kubernetes import Kubernetes, Object

GPU: Final = "nvidia.com/gpu"
ZONE: Final = "topology.kubernetes.io/zone"
_TYPE: Final = "node.kubernetes.io/instance-type"
_POOL_NAME: Final = "karpenter.sh/nodepool"
# The scheduler has said no to a pod, counting every node that there is, for so long: it will not change its mind by
# itself. Or it has not asked again for longer than it ever waits: no new node was one for the pod.
_SETTLED_S: Final = 3.0
_BACKED_OFF_S: Final = 15.0
_SETTLED_MOST_S: Final = 60.0
_ROUNDS: Final = 6


@dataclass(frozen=True)
class Pool:
    """`most`: of what it counts (`cpu`, or GPUs), by name. `types`: that the region offers."""

    name: str
    labels: Mapping[str, str]
    taints: Sequence[Mapping[str, str]]
    types: Sequence[str]
    zones: Sequence[str]
    most: Mapping[str, float]

    @classmethod
    def of(cls, manifest: Object, prices: Prices, where: str) -> "Pool":
        spec = manifest["spec"]
        template = spec["template"]
        wanted = {one["key"]: one["values"] for one in template["spec"]["requirements"]}
        return cls(
            manifest["metadata"]["name"],
            template["metadata"]["labels"],
            template["spec"].get("taints", ()),
            prices.offered(where, tuple(wanted[_TYPE])),
            wanted[ZONE],
            {key: amount(value) for key, value in spec["limits"].items()},
        )

    def takes(self, pod: Object) -> bool:
        """Whether a node of the pool could be one for the pod, as far as labels, taints and GPUs say."""
        spec = pod["spec"]
        chosen = {key: value for key, value in (spec.get("nodeSelector") or {}).items() if not _well_known(key)}
        has_gpus = GPU in self.most
        return (
            chosen.items() <= self.labels.items()
            and all(_tolerated(taint, spec.get("tolerations") or ()) for taint in self.taints)
            and has_gpus == (requested(pod["spec"], GPU) > 0)
        )


class Karpenter:
    """`made`: types of the nodes that there are, by the name of their pool."""

    def __init__(self, api: Kubernetes, rendered: Rendered, prices: Prices | None = None) -> None:
        self._api, self._rendered, self._prices = api, rendered, prices or load_prices()
        self._region, self._phase = rendered.region, phase_of(rendered)
        self.made: dict[str, list[str]] = {}
        self.pools = [Pool.of(one, self._prices, self._region) for one in rendered.of_kind("NodePool")]
        self._bootstrap()

    def place(self) -> Sequence[Object]:
        """Makes nodes until every pod has one, or no more may be made. The pods that have none."""
        for _ in range(_ROUNDS):
            pending = self._settled()
            grown = [self._grow(pool, pending) for pool in self.pools]
            if not any(grown):
                return pending
        return self._settled()

    def _settled(self) -> Sequence[Object]:
        """Pods that the scheduler has refused, when it has had its say on all of them."""
        since, before, limit = time.monotonic(), -1, time.monotonic() + _SETTLED_MOST_S
        while time.monotonic() < limit:
            pods = self._api.items("/api/v1/pods?fieldSelector=spec.nodeName%3D,status.phase%3DPending")
            asked = [pod for pod in pods if not _refused(pod)]
            if not pods:
                return []
            if asked or len(pods) != before:
                since, before = time.monotonic(), len(pods)
            elif time.monotonic() - since > (_SETTLED_S if self._saw_all(pods) else _BACKED_OFF_S):
                return pods
            time.sleep(0.1)
        raise AssertionError(f"the scheduler does not decide: {[pod['metadata']['name'] for pod in pods]}")

    def _saw_all(self, refused: Sequence[Object]) -> bool:
        """The scheduler's words count each node that there is."""
        every = f": 0/{len(self._api.items('/api/v1/nodes'))} nodes"
        return all(every in reason(pod) for pod in refused)

    def _grow(self, pool: Pool, pending: Sequence[Object]) -> bool:
        by_zone: dict[str, list[Object]] = {}
        for pod in pending:
            if pool.takes(pod):
                by_zone.setdefault(self._zone_of(pod), []).append(pod)
        return any([self._batch(pool, pods, zone) for zone, pods in by_zone.items()])  # noqa: C419 - each is to be made

    def _batch(self, pool: Pool, wanted: Sequence[Object], zone: str) -> bool:
        kind, many = self._cheapest(pool, wanted)
        many = min(many, self._allowed(pool, kind)) if many else 0
        for _ in range(many):
            self._node(pool, kind, zone)
        return many > 0

    def _zone_of(self, pod: Object) -> str:
        """Where its volumes are; empty where it may be anywhere."""
        space = pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes") or ():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            found = self._api.get(f"/api/v1/namespaces/{space}/persistentvolumeclaims/{claim}") if claim else None
            if found and found["spec"].get("volumeName"):
                made = self._api.send("GET", f"/api/v1/persistentvolumes/{found['spec']['volumeName']}")
                (term,) = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
                return str(term["matchExpressions"][0]["values"][0])
        return ""

    def _cheapest(self, pool: Pool, wanted: Sequence[Object]) -> tuple[str, int]:
        """The type that costs least for all of them. None of it where one of them fits no type."""
        sizes = [(requested(pod["spec"], "cpu") * 1000, requested(pod["spec"], "memory") / 2**20) for pod in wanted]
        possible = []
        for kind in pool.types:
            many = len(wanted) if GPU in pool.most else machines(sizes, self._room(kind, daemons(self._rendered.graph)))
            if many is not None:
                possible.append((many * self._prices.of(f"instance/{kind}", self._region).usd, kind, many))
        _usd, kind, many = min(possible, default=(0.0, "", 0))
        return kind, many

    def _allowed(self, pool: Pool, kind: str) -> int:
        """How many more of the type the pool's limits let in."""
        there = [self._prices.instance(one) for one in self.made.get(pool.name, ())]
        one = self._prices.instance(kind)
        taken = {"cpu": sum(node.vcpu for node in there), GPU: sum(node.gpus for node in there)}
        each = {"cpu": one.vcpu, GPU: one.gpus}
        return int(min((most - taken[key]) // each[key] for key, most in pool.most.items()))

    def _bootstrap(self) -> None:
        """The group that the cell's stack has: what makes other nodes runs on it."""
        nodes = self._phase.nodes
        assert nodes is not None
        taints = [{"key": bootstrap.TAINT, "value": "true", "effect": "NoSchedule"}]
        pool = Pool("bootstrap", bootstrap.LABELS, taints, (), region(self._region).zones, {})
        for _ in range(nodes.bootstrap_count):
            self._node(pool, nodes.bootstrap)

    def _node(self, pool: Pool, kind: str, zone: str = "") -> None:
        made = self.made.setdefault(pool.name, [])
        zone = zone or pool.zones[len(made) % len(pool.zones)]
        name = f"{zone}-{pool.name}-{len(made)}"
        made.append(kind)
        instance = self._prices.instance(kind)
        labels = {
            **pool.labels,
            _POOL_NAME: pool.name,
            _TYPE: kind,
            ZONE: zone,
            "topology.kubernetes.io/region": self._region,
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": instance.arch,
            "karpenter.sh/capacity-type": "on-demand",
        }
        simulate(self._api, name, labels, pool.taints, self._room(kind, ()), instance.gpus)

    def _room(self, kind: str, running: Sequence[Pods]) -> Room:
        """Of a machine, without what the system and the daemons that no plan has take."""
        return room(self._prices.instance(kind), self._prices.assumptions.node_overhead, running)


def simulate(
    api: Kubernetes, name: str, labels: Mapping[str, str], taints: Sequence[Mapping[str, str]], of: Room, gpus: int = 0
) -> None:
    """A node that is ready at once."""
    has = {"cpu": f"{of.cpu:.0f}m", "memory": f"{of.memory:.0f}Mi", "pods": str(of.pods), "ephemeral-storage": "50Gi"}
    has |= {GPU: str(gpus)} if gpus else {}
    path = f"/metrics/nodes/{name}/metrics/resource"
    meta = {"name": name, "labels": dict(labels), "annotations": {"metrics.k8s.io/resource-metrics-path": path}}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"taints": [dict(one) for one in taints]}}
    api.send("POST", "/api/v1/nodes", {**body, "status": {"capacity": has, "allocatable": has}})


def reason(pod: Object) -> str:
    """Why the scheduler has no node for it, in its own words."""
    meta = pod["metadata"]
    said = next((one["message"] for one in _conditions(pod) if one["type"] == "PodScheduled"), "it was not asked yet")
    return f"{meta['namespace']}/{meta['name']}: {said}"


def _refused(pod: Object) -> bool:
    return any(one["type"] == "PodScheduled" and one["status"] == "False" for one in _conditions(pod))


def _conditions(pod: Object) -> Sequence[Any]:
    return pod.get("status", {}).get("conditions") or ()


def _tolerated(taint: Mapping[str, str], tolerations: Sequence[Mapping[str, str]]) -> bool:
    return any(
        one.get("key") in (None, taint["key"])
        and one.get("effect") in (None, "", taint["effect"])
        and (one.get("operator") == "Exists" or one.get("value") == taint.get("value"))
        for one in tolerations
    )


def _well_known(key: str) -> bool:
    return key.startswith("kubernetes.io/")
