"""Background jobs: processes that any number may be of, as far as the database's connections reach."""

from collections.abc import Sequence
from typing import Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes import environment
from infra.kubernetes.app import container, pod_spec, rolling
from infra.kubernetes.autoscaling import scales
from infra.kubernetes.backends import Backends
from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, STANDARD, account, budget, labels, metadata, selected
from infra.kubernetes.sizes import WORKERS_LEAST
from infra.settings import Stack, Workloads

NAME: Final = "trellis-worker"


class Workers(Part):
    """The Deployment `worker`, of the image that users reach."""

    def __init__(
        self, stack: Stack, backends: Backends, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]
    ) -> None:
        super().__init__("Workers", stack, opts, after=after)
        given, server = stack.given, stack.phase.server
        assert isinstance(given, Workloads)
        assert server is not None
        selector = selected(NAME)
        env = environment.working(stack, backends)
        account(NAME, APPS, "worker", self.child())
        self.deployment = apps.Deployment(
            "worker",
            metadata=metadata("worker", APPS, labels(NAME, "worker")),
            spec=apps.DeploymentSpecArgs(
                replicas=None if scales(server.workers) else WORKERS_LEAST,
                selector=meta.LabelSelectorArgs(match_labels=selector),
                revision_history_limit=5,
                min_ready_seconds=5,
                progress_deadline_seconds=600,
                strategy=rolling(),
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(labels=labels(NAME, "worker")),
                    spec=pod_spec(
                        container("worker", given.image, ["worker"], env, stack.phase.worker, probed=True),
                        who=NAME,
                        selector=selector,
                        priority=STANDARD,
                        zones=backends.zones,
                    ),
                ),
            ),
            opts=self.child(),
        )
        budget("worker", APPS, "worker", selector, self.child())
        self.register_outputs({})
