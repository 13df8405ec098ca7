"""A card fails under one of two vLLM servers: its node is drained and replaced, the other server goes on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from infra.kubernetes.exporters import NODES
from infra.kubernetes.gpu import GPU_NODES
from infra.kubernetes.pods import MODELS
from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Stage, Standing
from runbooks.drill.stages.cluster import NEEDS, Cluster, making_nodes, only, running_cluster
from runbooks.drill.stages.state import JOB, XID, cards, exposed, workloads
from runbooks.drill.stages.watched import watched
from tests.cluster.endpoints import Endpoints, Mark
from tests.cluster.rendered import apps_of, changed

SERVERS: Final = 2
FAULT: Final = "79"
"""The XID of a card that has fallen off the bus."""
_INSTANCE: Final = "i-0123456789abcdef0"
_VLLM: Final = f"/apis/apps/v1/namespaces/{MODELS}/deployments/vllm"
_POOL: Final = "%3D".join(*GPU_NODES.items())


@dataclass(kw_only=True)
class GpuFault(Standing):
    """`node`: whose card fails."""

    cluster: Cluster
    node: str
    served: Endpoints
    marks: list[Mark] = field(default_factory=list)

    async def break_it(self) -> None:
        self.marks[:] = [self.served.mark()]
        change = {"metadata": {"annotations": {XID: FAULT}}}
        await asyncio.to_thread(self.cluster.api.merge, f"/api/v1/nodes/{self.node}", change)

    async def lost(self) -> str:
        fewest = min(map(len, self.marks[0].since()))
        assert fewest >= SERVERS - 1, "no vLLM answered for a while"
        left = self.cluster.api.get(f"/api/v1/nodes/{self.node}")
        assert left is None, f"{self.node} is still there"
        return f"nothing ({fewest} of {SERVERS} servers went on)"


@asynccontextmanager
async def gpu_fault(folder: Path) -> AsyncIterator[GpuFault]:
    """The medium phase's models on two GPU nodes, and Karpenter, which makes a third when a server has no place."""
    rendered = await asyncio.to_thread(changed, folder / "stacks", apps_of(PhaseName.MEDIUM))
    async with AsyncExitStack() as stack:
        kept = only(rendered, (MODELS, NODES))
        cluster = await stack.enter_async_context(running_cluster(folder / "cluster", kept, scaled=False))
        await asyncio.to_thread(cluster.api.scale, _VLLM, SERVERS)
        await cluster.settle()
        await stack.enter_async_context(making_nodes(cluster))
        node = await asyncio.to_thread(_named, cluster)
        port = stack.enter_context(exposed(partial(workloads, cluster.api), partial(cards, cluster.api, _POOL)))
        prometheus = await stack.enter_async_context(watched(folder, PhaseName.MEDIUM, {JOB: [port]}))
        yield GpuFault(
            environment={"NODE": node},
            programs={"kubectl": cluster.kubectl()},
            prometheus=prometheus,
            cluster=cluster,
            node=node,
            served=Endpoints(cluster.api, MODELS, "vllm"),
        )


def _named(cluster: Cluster) -> str:
    """A node with a vLLM, which knows its instance as one of AWS does."""
    pods = cluster.api.items(f"/api/v1/namespaces/{MODELS}/pods")
    node = str(pods[0]["spec"]["nodeName"])
    zone: Mapping[str, str] = cluster.api.send("GET", f"/api/v1/nodes/{node}")["metadata"]["labels"]
    where = f"aws:///{zone['topology.kubernetes.io/zone']}/{_INSTANCE}"
    cluster.api.merge(f"/api/v1/nodes/{node}", {"spec": {"providerID": where}})
    return node


def stage(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return gpu_fault(folder)


REHEARSAL = Rehearsal(page="procedures/gpu-fault", alert="GpuXid", needs=NEEDS, stage=stage, wait_s=180)
