"""The API: two colours of it side by side, and one Service that says which of them users reach.

The Service's selector is the switch, in two steps, there and back: first both colours (`"colour": null`), then, when
the load balancer has checked the pods of both, the one alone. runbooks/procedures/deploy.md and blue-green-rollback.md
have the commands, and drills run them. `pulumi up` with the new `active`, `image` and `otherImage` then says the same.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes import environment
from infra.kubernetes.backends import Backends
from infra.kubernetes.part import Part
from infra.kubernetes.pods import (
    APPS,
    CRITICAL,
    account,
    budget,
    container_port,
    http_probe,
    labels,
    locked,
    metadata,
    needs,
    scratch,
    selected,
    service,
    spread,
    unprivileged,
)
from infra.phases import Pod
from infra.settings import Stack, Workloads

NAME: Final = "trellis-api"
UID: Final = 10001
"""The user of the image, see app/Dockerfile."""
COLOURS: Final = ("blue", "green")
_START_S: Final = 120


def colours(given: Workloads) -> Mapping[str, str]:
    """Images by the colour that runs them: one, or two while a release is tried."""
    other = next(colour for colour in COLOURS if colour != given.active)
    return {given.active: given.image, **({other: given.other_image} if given.other_image else {})}


class Api(Part):
    """Deployments and Services `api-blue` and `api-green`, the Service `api`. `deployments` by colour."""

    def __init__(
        self, stack: Stack, backends: Backends, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("Api", stack, opts, after=after)
        given = stack.given
        assert isinstance(given, Workloads)
        self._backends = backends
        account(NAME, APPS, "api", self.child())
        self.deployments = {colour: self._colour(colour, image) for colour, image in colours(given).items()}
        self.service = service(
            "api",
            APPS,
            "api",
            selected(NAME, colour=given.active),
            [("http", environment.PORT)],
            # Users are led to a colour that is there.
            self.child(depends_on=[self.deployments[given.active]]),
        )
        self.register_outputs({})

    def _colour(self, colour: str, image: str) -> apps.Deployment:
        selector = selected(NAME, colour=colour)
        env = environment.serving(self.stack, self._backends)
        deployment = apps.Deployment(
            f"api-{colour}",
            metadata=metadata(f"api-{colour}", APPS, labels(NAME, "api", colour=colour)),
            # No replicas: they are the autoscaler's.
            spec=apps.DeploymentSpecArgs(
                selector=meta.LabelSelectorArgs(match_labels=selector),
                revision_history_limit=5,
                min_ready_seconds=5,
                progress_deadline_seconds=600,
                strategy=rolling(),
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(labels=labels(NAME, "api", colour=colour)),
                    spec=pod_spec(
                        container("api", image, ["api"], env, self.stack.phase.api, probed=True),
                        who=NAME,
                        selector=selector,
                        priority=CRITICAL,
                        zones=self._backends.zones,
                    ),
                ),
            ),
            opts=self.child(),
        )
        service(f"api-{colour}", APPS, "api", selector, [("http", environment.PORT)], self.child())
        budget(f"api-{colour}", APPS, "api", selector, self.child())
        return deployment


def rolling() -> apps.DeploymentStrategyArgs:
    """None goes before its successor is ready; `infra/pools.py` counts on the quarter."""
    return apps.DeploymentStrategyArgs(
        type="RollingUpdate", rolling_update=apps.RollingUpdateDeploymentArgs(max_surge="25%", max_unavailable=0)
    )


def container(
    name: str, image: str, args: list[str], env: environment.Environment, pod: Pod, *, probed: bool
) -> core.ContainerArgs:
    """A process of the app. `probed`: it serves, rather than does something and ends."""
    _, mounted = scratch(*environment.mounts())
    every_s = 2
    return core.ContainerArgs(
        name=name,
        image=image,
        image_pull_policy="IfNotPresent",
        args=args,
        env=env,
        ports=[container_port("http", environment.PORT)] if probed else None,
        resources=needs(pod),
        security_context=locked(),
        volume_mounts=mounted,
        startup_probe=http_probe("/startupz", environment.PORT, every_s=every_s, failures=_START_S // every_s)
        if probed
        else None,
        liveness_probe=http_probe("/healthz", environment.PORT, every_s=10, failures=3) if probed else None,
        readiness_probe=http_probe("/readyz", environment.PORT, every_s=5, failures=2) if probed else None,
    )


def pod_spec(
    *containers: core.ContainerArgs, who: str, selector: Mapping[str, str], priority: str, zones: bool
) -> core.PodSpecArgs:
    """Of processes that serve."""
    volumes, _ = scratch(*environment.mounts())
    return core.PodSpecArgs(
        service_account_name=who,
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=priority,
        termination_grace_period_seconds=environment.TERMINATION_S,
        security_context=unprivileged(UID),
        topology_spread_constraints=spread(selector, zones=zones),
        containers=list(containers),
        volumes=volumes,
    )
