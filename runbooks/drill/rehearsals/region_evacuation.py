"""A region stops answering: its users are sent to the others, which get room for them; then it is back.

Two of the three regions have a control plane here; the names of all three are in moto's Route 53.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from alerts.generate import global_rule_files
from alerts.regions import PROCESSES
from infra.layout import Layer, StackName
from infra.offline import graphs
from infra.phases import PHASES, PhaseName
from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage, Standing
from runbooks.drill.stages.aws import PROGRAM, running_aws
from runbooks.drill.stages.cluster import APPS, NEEDS, Cluster, answer_probes, making_nodes, only, running_cluster
from runbooks.drill.stages.edge import Edge, made
from runbooks.drill.stages.state import exposed, sample
from runbooks.drill.stages.watched import watched
from tests.cluster.endpoints import Endpoints, Mark
from tests.cluster.rendered import Rendered

PHASE: Final = PHASES[PhaseName.MULTI_REGION]
LOST, LEFT, _ = PHASE.fleet.regions
_EDGE: Final = str(StackName(PHASE.name, "", Layer.EDGE))
_USED: Final = "trellis:autoscaler_used:ratio"


@dataclass(kw_only=True)
class Evacuation(Standing):
    """`clusters` by region. `emptied`: whether the page's commands kept users from the region."""

    clusters: Mapping[str, Cluster]
    edge: Edge
    marks: list[Mark] = field(default_factory=list)
    emptied: bool = False

    async def break_it(self) -> None:
        """No pod of the region's API passes its probe."""
        self.marks[:] = [Endpoints(self.clusters[LEFT].api, APPS, "api").mark()]
        await asyncio.to_thread(self._probes, well=False)

    async def mend(self) -> None:
        """The region is whole again; users are still kept from it."""
        self.emptied = await asyncio.to_thread(self.edge.emptied, LOST)
        await asyncio.to_thread(self._probes, well=True)

    async def lost(self) -> str:
        assert self.emptied, f"users were never kept from {LOST}"
        assert not await asyncio.to_thread(self.edge.emptied, LOST), f"users were not sent back to {LOST}"
        counts = [len(names) for names in self.marks[0].since()]
        assert min(counts) >= PHASE.fleet.least, f"{LEFT} had only {min(counts)} pods for a while"
        return f"no data ({LEFT} grew from {counts[0]} to {max(counts)} pods and carried its users)"

    def _probes(self, *, well: bool) -> None:
        api = self.clusters[LOST].api
        pods = api.items(f"/api/v1/namespaces/{APPS}/pods?labelSelector=app.kubernetes.io%2Fname%3Dtrellis-api")
        answer_probes(api, pods, well=well)


@asynccontextmanager
async def evacuation(folder: Path) -> AsyncIterator[Evacuation]:
    stacks = {region: str(StackName(PHASE.name, region, Layer.APPS)) for region in (LOST, LEFT)}
    found = await asyncio.to_thread(graphs, [_EDGE, *stacks.values()])
    async with AsyncExitStack() as stack:
        clusters = {}
        for region, name in stacks.items():
            rendered = only(Rendered.of(found[name]), (APPS,))
            clusters[region] = await stack.enter_async_context(running_cluster(folder / region, rendered))
            await stack.enter_async_context(making_nodes(clusters[region]))
        aws = stack.enter_context(running_aws(folder / "aws"))
        edge = await asyncio.to_thread(made, aws, found[_EDGE], folder)
        sources = [partial(recorded, region, cluster) for region, cluster in clusters.items()]
        jobs = {"federate": [stack.enter_context(exposed(*sources))]}
        above = watched(folder, PHASE.name, jobs, rules_of=global_rule_files)
        yield Evacuation(
            environment={**aws.environment, "REGION": LOST, "OTHER_REGIONS": LEFT, "ZONE": edge.zone},
            programs={"kubectl": _kubectl(clusters, folder / "kubeconfig"), "aws": (str(PROGRAM),)},
            prometheus=await stack.enter_async_context(above),
            clusters=clusters,
            edge=edge,
        )


def recorded(region: str, cluster: Cluster) -> Iterator[str]:
    """What the global Prometheus takes of the region's own, said by the region's API server."""
    api = cluster.api
    yield sample(PROCESSES, len(Endpoints(api, APPS, "api").now()), region=region)
    scalers = api.items(f"/apis/autoscaling/v2/namespaces/{APPS}/horizontalpodautoscalers")
    used = [one.get("status", {}).get("currentReplicas", 0) / one["spec"]["maxReplicas"] for one in scalers]
    yield sample(_USED, max(used), region=region)


def _kubectl(clusters: Mapping[str, Cluster], file: Path) -> tuple[str, ...]:
    """The command, with a context for each region, named as it is."""
    whole: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for region, cluster in clusters.items():
        own = yaml.safe_load(cluster.plane.kubeconfig.read_text())
        for part in ("clusters", "users"):
            whole[part].append({**own[part][0], "name": region})
        whole["contexts"].append({"name": region, "context": {"cluster": region, "user": region}})
    file.write_text(yaml.safe_dump(whole))
    return str(clusters[LOST].built.program), "kubectl", f"--kubeconfig={file}"


def stage(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return evacuation(folder)


REHEARSAL = Rehearsal(
    page="procedures/region-evacuation",
    alert="RegionDown",
    needs=NEEDS,
    stage=stage,
    rollback=Rollback.AFTER,
    wait_s=180,
)
