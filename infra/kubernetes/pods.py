"""What every pod of ours has in common: names, who it is, what it may not do, where it is placed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.policy import v1 as policy

from infra.naming import PREFIX
from infra.phases import Pod

APPS: Final = "trellis"
DATA: Final = "trellis-data"
MODELS: Final = "trellis-models"
TELEMETRY: Final = "trellis-telemetry"

CRITICAL: Final = "trellis-critical"
STATEFUL: Final = "trellis-stateful"
STANDARD: Final = "trellis-standard"
BATCH: Final = "trellis-batch"

ZONE: Final = "topology.kubernetes.io/zone"
HOST: Final = "kubernetes.io/hostname"
NAME: Final = "app.kubernetes.io/name"


def labels(name: str, component: str, **more: str) -> dict[str, str]:
    """`name` is the job of `infra/scrapes.py` where Prometheus asks the pod."""
    return {
        NAME: name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PREFIX,
        "app.kubernetes.io/instance": PREFIX,
        **more,
    }


def selected(name: str, **more: str) -> dict[str, str]:
    """What a selector asks for: fewer labels than a pod has, since a Deployment's selector can never change."""
    return {NAME: name, **more}


def metadata(
    name: pulumi.Input[str],
    namespace: str,
    labelled: Mapping[str, str],
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> meta.ObjectMetaArgs:
    return meta.ObjectMetaArgs(
        name=name, namespace=namespace, labels=dict(labelled), annotations=dict(annotations or {}) or None
    )


def account(name: str, namespace: str, component: str, opts: pulumi.ResourceOptions) -> core.ServiceAccount:
    """A service account whose token is mounted nowhere: none of our processes asks the API server."""
    return core.ServiceAccount(
        name,
        metadata=metadata(name, namespace, labels(name, component)),
        automount_service_account_token=False,
        opts=opts,
    )


def unprivileged(uid: int) -> core.PodSecurityContextArgs:
    """Of a pod: one user and group, not root, and its volumes its own."""
    return core.PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=uid,
        run_as_group=uid,
        fs_group=uid,
        fs_group_change_policy="OnRootMismatch",
        seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
    )


def locked() -> core.SecurityContextArgs:
    """Of a container: nothing to gain and nowhere to write but its volumes."""
    return core.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        privileged=False,
        capabilities=core.CapabilitiesArgs(drop=["ALL"]),
    )


def needs(pod: Pod) -> core.ResourceRequirementsArgs:
    """What it is promised; of memory it gets no more. Of the processor it may take what nobody else needs: a limit
    would only slow it down while the node idles."""
    memory = f"{pod.memory}Mi"
    return core.ResourceRequirementsArgs(requests={"cpu": f"{pod.cpu}m", "memory": memory}, limits={"memory": memory})


def spread(
    selector: Mapping[str, str], *, zones: bool, rollout: bool = True
) -> list[core.TopologySpreadConstraintArgs]:
    """Evenly over zones and nodes.

    Args:
        zones: nodes say which zone they are in, so an uneven placement is refused; else it is only the last choice.
        rollout: of a Deployment, whose new pods are spread among themselves.
    """
    keys = ["pod-template-hash"] if rollout else None
    return [
        core.TopologySpreadConstraintArgs(
            max_skew=1,
            topology_key=key,
            when_unsatisfiable=when,
            # A zone whose nodes are all gone is no zone to keep a place in.
            node_taints_policy="Honor",
            label_selector=meta.LabelSelectorArgs(match_labels=dict(selector)),
            match_label_keys=keys,
        )
        for key, when in ((ZONE, "DoNotSchedule" if zones else "ScheduleAnyway"), (HOST, "ScheduleAnyway"))
    ]


def apart(selector: Mapping[str, str], *, required: bool) -> core.AffinityArgs:
    """No two of them on one node."""
    term = core.PodAffinityTermArgs(
        topology_key=HOST, label_selector=meta.LabelSelectorArgs(match_labels=dict(selector))
    )
    anti = (
        core.PodAntiAffinityArgs(required_during_scheduling_ignored_during_execution=[term])
        if required
        else core.PodAntiAffinityArgs(
            preferred_during_scheduling_ignored_during_execution=[
                core.WeightedPodAffinityTermArgs(weight=100, pod_affinity_term=term)
            ]
        )
    )
    return core.AffinityArgs(pod_anti_affinity=anti)


def http_probe(path: str, port: int, *, every_s: int, failures: int, timeout_s: int = 5) -> core.ProbeArgs:
    return core.ProbeArgs(
        http_get=core.HTTPGetActionArgs(path=path, port=port),
        period_seconds=every_s,
        timeout_seconds=timeout_s,
        failure_threshold=failures,
    )


def tcp_probe(port: int, *, every_s: int = 10, failures: int = 3) -> core.ProbeArgs:
    return core.ProbeArgs(
        tcp_socket=core.TCPSocketActionArgs(port=port),
        period_seconds=every_s,
        timeout_seconds=3,
        failure_threshold=failures,
    )


def scratch(*mounts: tuple[str, str, str]) -> tuple[list[core.VolumeArgs], list[core.VolumeMountArgs]]:
    """Folders that go with the pod, each (name, path, size): they count against the pod's own disk."""
    volumes = [
        core.VolumeArgs(name=name, empty_dir=core.EmptyDirVolumeSourceArgs(size_limit=size)) for name, _, size in mounts
    ]
    return volumes, [core.VolumeMountArgs(name=name, mount_path=path) for name, path, _ in mounts]


def value(name: str, text: pulumi.Input[str]) -> core.EnvVarArgs:
    return core.EnvVarArgs(name=name, value=text)


def secret(name: str, of: str, key: str, *, optional: bool = False) -> core.EnvVarArgs:
    """A variable from a Secret that lies in the pod's namespace."""
    source = core.SecretKeySelectorArgs(name=of, key=key, optional=True if optional else None)
    return core.EnvVarArgs(name=name, value_from=core.EnvVarSourceArgs(secret_key_ref=source))


def own(name: str, path: str) -> core.EnvVarArgs:
    """A variable from the pod itself."""
    return core.EnvVarArgs(
        name=name, value_from=core.EnvVarSourceArgs(field_ref=core.ObjectFieldSelectorArgs(field_path=path))
    )


def container_port(name: str, port: int) -> core.ContainerPortArgs:
    return core.ContainerPortArgs(name=name, container_port=port, protocol="TCP")


def service(
    name: str,
    namespace: str,
    component: str,
    selector: Mapping[str, str],
    ports: Sequence[tuple[str, int]],
    opts: pulumi.ResourceOptions,
    **spec: Any,
) -> core.Service:
    """Inside the cluster. Not waited for: its pods come later, and some come only once it is there."""
    return core.Service(
        f"{namespace}-{name}",
        metadata=metadata(name, namespace, labels(selector[NAME], component), {"pulumi.com/skipAwait": "true"}),
        spec=core.ServiceSpecArgs(
            type="ClusterIP",
            selector=dict(selector),
            ports=[
                core.ServicePortArgs(name=label, port=port, target_port=port, protocol="TCP") for label, port in ports
            ],
            **spec,
        ),
        opts=opts,
    )


def budget(
    name: str, namespace: str, component: str, selector: Mapping[str, str], opts: pulumi.ResourceOptions
) -> policy.PodDisruptionBudget:
    """One of them may be taken away at a time; one that is not ready anyway may always go."""
    return policy.PodDisruptionBudget(
        f"{namespace}-{name}",
        metadata=metadata(name, namespace, labels(selector[NAME], component)),
        spec=policy.PodDisruptionBudgetSpecArgs(
            max_unavailable=1,
            selector=meta.LabelSelectorArgs(match_labels=dict(selector)),
            unhealthy_pod_eviction_policy="AlwaysAllow",
        ),
        opts=opts,
    )
