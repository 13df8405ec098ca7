"""A region's cluster for drills: the real control plane with a stack's own manifests; only the machines are simulated.

kwok answers for the pods: none of them runs a program. What a pod would say (its log, a request's answer) is not there.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.cluster.karpenter import Karpenter
from tests.cluster.rendered import Rendered
from tests.cluster.running import SCALERS, place, start
from tests.support.components import COMPONENTS
from tests.support.kubernetes import Kubernetes, Object
from tests.support.plane import Plane, running_plane
from tests.support.plane_build import Built, build, built

NEEDS: Final = ("go", "prometheus", "alertmanager")
"""Components of a rehearsal on a cluster that is watched."""
APPS: Final = "trellis"
_KEDA: Final = "ScaledObject"


@dataclass(frozen=True)
class Cluster:
    """`rendered`: what was made of the stack. `karpenter`: makes nodes within the limits of the stack's own pools."""

    built: Built
    plane: Plane
    rendered: Rendered
    karpenter: Karpenter

    @property
    def api(self) -> Kubernetes:
        return self.plane.api

    def kubectl(self, group: str | None = None) -> Sequence[str]:
        """The command, by an administrator or by a member of a group who may do no more than that."""
        who = () if group is None else (f"--as=drill-of-{group}", f"--as-group={group}")
        return str(self.built.program), "kubectl", f"--kubeconfig={self.plane.kubeconfig}", *who

    async def settle(self) -> None:
        """Until every workload is whole, with as many nodes as that takes."""
        await asyncio.to_thread(place, self.karpenter, self.api)


@asynccontextmanager
async def running_cluster(folder: Path, rendered: Rendered, *, scaled: bool = True) -> AsyncIterator[Cluster]:
    """A cluster with the stack's objects, all of them whole.

    Args:
        folder: of the control plane; made.
        scaled: its autoscalers are there as well; without them, who opens it says how many pods there are.
    """
    await asyncio.to_thread(folder.mkdir, parents=True)
    made = await asyncio.to_thread(parts)
    running = running_plane(made, folder)
    plane = await asyncio.to_thread(running.__enter__)
    try:
        # KEDA is not here: what it would scale has the one pod that Kubernetes gives it.
        without = (_KEDA,) if scaled else SCALERS
        await asyncio.to_thread(start, plane, made, rendered, without=without)
        cluster = Cluster(made, plane, rendered, Karpenter(plane.api, rendered))
        await cluster.settle()
        yield cluster
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


def only(rendered: Rendered, spaces: Sequence[str]) -> Rendered:
    """Objects of these namespaces, those that belong to none, and what makes nodes."""
    kept = [one for one in rendered.objects if one["metadata"].get("namespace") in (None, *spaces)]
    return replace(rendered, objects=kept)


@asynccontextmanager
async def making_nodes(cluster: Cluster) -> AsyncIterator[None]:
    """In the place of Karpenter, until the block ends: a node for each pod that has no place."""

    async def make() -> None:
        while True:
            await asyncio.to_thread(cluster.karpenter.place)
            await asyncio.sleep(1)

    task = asyncio.create_task(make())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def answer_probes(api: Kubernetes, pods: Sequence[Object], *, well: bool) -> None:
    """Pods whose probe passes or fails from now on, as their kubelet would say it."""
    ready = "True" if well else "False"
    for pod in pods:
        conditions = [
            {**one, "status": ready} if one["type"] in ("Ready", "ContainersReady") else one
            for one in pod["status"]["conditions"]
        ]
        containers = [{**one, "ready": well} for one in pod["status"]["containerStatuses"]]
        change = {"status": {"conditions": conditions, "containerStatuses": containers}}
        meta = pod["metadata"]
        api.merge(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status", change)


def parts() -> Built:
    """The control plane's program; built where it is not there yet, which takes minutes. Raises RuntimeError."""
    found, go = built(), COMPONENTS["go"].find()
    if found is not None:
        return found
    if go is None:
        raise RuntimeError("the control plane is built by Go, which is not installed (make deps)")
    return build(go)
