"""One kind of pod of telemetry and of models, with all that belongs to it: account, services, disruption budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes import pods
from infra.kubernetes.part import Part
from infra.kubernetes.pods import STANDARD, STATEFUL, TELEMETRY
from infra.phases import Pod
from infra.versions import Image

COMPONENT: Final = "app.kubernetes.io/component"
_SLOW_START_S: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A volume of each pod. `storage_class`: None for the cluster's own."""

    path: str
    gib: int
    storage_class: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What runs, and how it is asked.

    `job`: the label by which Prometheus finds it (`infra/scrapes.py`); `component` tells apart two kinds of one job.
    `ports` by name; `ready` and `alive` are paths on the port `probed`. Its service account has its name. `zones`:
    nodes say which zone they are in.
    """

    name: str
    job: str
    component: str
    image: Image
    uid: int
    pod: Pod
    ports: Mapping[str, int]
    probed: int
    ready: str
    alive: str
    zones: bool
    args: Sequence[pulumi.Input[str]] = ()
    env: Sequence[core.EnvVarArgs] = ()
    volumes: Sequence[core.VolumeArgs] = ()
    mounts: Sequence[core.VolumeMountArgs] = ()
    replicas: int = 1
    namespace: str = TELEMETRY
    grace_s: int = 30

    @property
    def selector(self) -> dict[str, str]:
        return pods.selected(self.job, **{COMPONENT: self.component})

    @property
    def labels(self) -> dict[str, str]:
        return pods.labels(self.job, self.component)


def deployment(part: Part, process: Process, *, after: Sequence[pulumi.Resource] = ()) -> apps.Deployment:
    """Pods that keep nothing of their own."""
    _beside(part, process)
    return apps.Deployment(
        process.name,
        metadata=pods.metadata(process.name, process.namespace, process.labels),
        spec=apps.DeploymentSpecArgs(
            replicas=process.replicas,
            revision_history_limit=5,
            selector=meta.LabelSelectorArgs(match_labels=process.selector),
            strategy=apps.DeploymentStrategyArgs(
                type="RollingUpdate",
                rolling_update=apps.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
            ),
            template=template(process, rollout=True),
        ),
        opts=part.child(depends_on=after),
    )


def stateful_set(
    part: Part, process: Process, disk: Disk, *, after: Sequence[pulumi.Resource] = (), lasting: bool
) -> apps.StatefulSet:
    """Pods with a volume each, found by name through `<name>-headless`.

    Args:
        lasting: volumes stay when the stack goes.
    """
    _beside(part, process)
    headless = pods.service(
        f"{process.name}-headless",
        process.namespace,
        process.component,
        process.selector,
        list(process.ports.items()),
        part.child(),
        cluster_ip="None",
        publish_not_ready_addresses=True,
    )
    kept = "Retain" if lasting else "Delete"
    return apps.StatefulSet(
        process.name,
        metadata=pods.metadata(process.name, process.namespace, process.labels),
        spec=apps.StatefulSetSpecArgs(
            replicas=process.replicas,
            service_name=f"{process.name}-headless",
            pod_management_policy="Parallel",
            revision_history_limit=5,
            selector=meta.LabelSelectorArgs(match_labels=process.selector),
            persistent_volume_claim_retention_policy=(
                apps.StatefulSetPersistentVolumeClaimRetentionPolicyArgs(when_deleted=kept, when_scaled="Retain")
            ),
            volume_claim_templates=[_claim(process, disk)],
            template=template(process, rollout=False, disk=disk),
        ),
        opts=part.child(depends_on=[headless, *after]),
    )


def template(process: Process, *, rollout: bool, disk: Disk | None = None) -> core.PodTemplateSpecArgs:
    kept = [core.VolumeMountArgs(name="data", mount_path=disk.path)] if disk else []
    spread = pods.spread(process.selector, zones=process.zones, rollout=rollout) if process.replicas > 1 else None
    return core.PodTemplateSpecArgs(
        metadata=meta.ObjectMetaArgs(labels=process.labels),
        spec=core.PodSpecArgs(
            service_account_name=process.name,
            automount_service_account_token=False,
            enable_service_links=False,
            priority_class_name=STATEFUL if disk else STANDARD,
            security_context=pods.unprivileged(process.uid),
            termination_grace_period_seconds=process.grace_s,
            topology_spread_constraints=spread,
            affinity=pods.apart(process.selector, required=process.zones) if process.replicas > 1 else None,
            volumes=list(process.volumes) or None,
            containers=[_container(process, kept)],
        ),
    )


def _container(process: Process, kept: Sequence[core.VolumeMountArgs]) -> core.ContainerArgs:
    return core.ContainerArgs(
        name=process.job,
        image=process.image.reference,
        image_pull_policy="IfNotPresent",
        args=list(process.args) or None,
        env=list(process.env) or None,
        ports=[pods.container_port(name, port) for name, port in process.ports.items()],
        resources=pods.needs(process.pod),
        security_context=pods.locked(),
        volume_mounts=[*process.mounts, *kept] or None,
        startup_probe=pods.http_probe(process.alive, process.probed, every_s=5, failures=_SLOW_START_S // 5),
        readiness_probe=pods.http_probe(process.ready, process.probed, every_s=10, failures=3),
        liveness_probe=pods.http_probe(process.alive, process.probed, every_s=20, failures=6),
    )


def _claim(process: Process, disk: Disk) -> core.PersistentVolumeClaimArgs:
    more: dict[str, Any] = {"storage_class_name": disk.storage_class} if disk.storage_class else {}
    return core.PersistentVolumeClaimArgs(
        metadata=meta.ObjectMetaArgs(name="data", labels=process.labels),
        spec=core.PersistentVolumeClaimSpecArgs(
            access_modes=["ReadWriteOnce"],
            resources=core.VolumeResourceRequirementsArgs(requests={"storage": f"{disk.gib}Gi"}),
            **more,
        ),
    )


def _beside(part: Part, process: Process) -> None:
    pods.account(process.name, process.namespace, process.component, part.child())
    pods.service(
        process.name,
        process.namespace,
        process.component,
        process.selector,
        list(process.ports.items()),
        part.child(),
        session_affinity="ClientIP",
    )
    if process.replicas > 1:
        pods.budget(process.name, process.namespace, process.component, process.selector, part.child())
