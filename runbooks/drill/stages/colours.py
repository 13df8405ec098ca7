"""The medium phase's API in two colours, behind a load balancer's target group, as it stands in AWS.

The page's commands are run as a member of `trellis-releasers`: what that group may not do, the page cannot ask for.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from infra.kubernetes.app import COLOURS
from infra.kubernetes.guardrails import RELEASERS
from infra.phases import PhaseName
from runbooks.drill.rehearsal import Standing
from runbooks.drill.stages.aws import PROGRAM, Aws, running_aws
from runbooks.drill.stages.balancer import balanced, target_group
from runbooks.drill.stages.cluster import APPS, Cluster, only, running_cluster
from runbooks.drill.stages.state import JOB, exposed, workloads
from runbooks.drill.stages.watched import watched
from tests.cluster.endpoints import Endpoints, Mark
from tests.cluster.rendered import OTHER_IMAGE, Rendered, apps_of, changed
from tests.support.kubernetes import Object
from tests.support.processes import wait_until

SERVICE: Final = f"/api/v1/namespaces/{APPS}/services/api"
_BLUE, _GREEN = COLOURS
_RELEASE: Final = frozenset({f"api-{_GREEN}", f"migrate-{OTHER_IMAGE.rpartition(':')[2][:12]}"})
"""Names of what a release that is tried adds."""


@dataclass(kw_only=True)
class Colours(Standing):
    """`served`: who answers for users. `least`: pods of a colour. `marks`: since when it is counted who answered."""

    cluster: Cluster
    served: Endpoints
    least: int
    marks: list[Mark] = field(default_factory=list)

    def begin(self) -> None:
        self.marks[:] = [self.served.mark()]

    def seen(self) -> Sequence[frozenset[str]]:
        """Names of the pods that answered for users, at each moment since `begin`."""
        return self.marks[0].since()

    def pods(self, colour: str) -> Sequence[Object]:
        return self.cluster.api.items(f"/api/v1/namespaces/{APPS}/pods?labelSelector=colour%3D{colour}")

    async def release(self) -> None:
        """What `make deploy` makes of a release that is to be tried: all of green, after its migration."""
        api = self.cluster.api
        for manifest in self.cluster.rendered.objects:
            if manifest["metadata"]["name"] in _RELEASE:
                await asyncio.to_thread(api.apply, manifest)

    async def switch(self, colour: str) -> None:
        """By hand, as it was done before the drill."""
        await asyncio.to_thread(self.cluster.api.merge, SERVICE, {"spec": {"selector": {"colour": colour}}})
        await asyncio.to_thread(wait_until, lambda: only_of(self.served.now(), colour), f"{colour} answers")


Kind = TypeVar("Kind", bound=Colours)


@asynccontextmanager
async def colours(folder: Path, kind: type[Kind], *, tried: bool) -> AsyncIterator[Kind]:
    """Blue is live. `tried`: green is beside it already, with as many pods. `kind`: the rehearsal's own."""
    settings = partial(changed, folder / "stacks", apps_of(PhaseName.MEDIUM), otherImage=OTHER_IMAGE)
    rendered = only(await asyncio.to_thread(settings), (APPS,))
    first = rendered if tried else _before(rendered)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster(folder / "cluster", first))
        served = Endpoints(cluster.api, APPS, "api")
        aws = stack.enter_context(running_aws(folder / "aws"))
        group = await asyncio.to_thread(_bound, aws, cluster)
        stack.enter_context(balanced(aws, served, group, folder))
        port = stack.enter_context(exposed(partial(workloads, cluster.api)))
        prometheus = await stack.enter_async_context(watched(folder, PhaseName.MEDIUM, {JOB: [port]}))
        yield kind(
            environment=aws.environment,
            programs={"kubectl": cluster.kubectl(RELEASERS), "aws": (str(PROGRAM),)},
            prometheus=prometheus,
            cluster=replace(cluster, rendered=rendered),
            served=served,
            least=int(rendered.one("HorizontalPodAutoscaler", f"api-{_BLUE}")["spec"]["minReplicas"]),
        )


def _bound(aws: Aws, cluster: Cluster) -> str:
    """The target group that the stack's binding names from now on."""
    group, binding = target_group(aws), cluster.rendered.one("TargetGroupBinding", "api")
    cluster.api.merge(cluster.api.path(binding), {"spec": {"targetGroupARN": group}})
    return group


def only_of(names: Iterable[str], colour: str) -> bool:
    """Whether somebody answers, and nobody of another colour."""
    found = list(names)
    return bool(found) and all(name.startswith(f"api-{colour}") for name in found)


def _before(rendered: Rendered) -> Rendered:
    """As it stands before the release is tried."""
    return Rendered(rendered.graph, [one for one in rendered.objects if one["metadata"]["name"] not in _RELEASE])
