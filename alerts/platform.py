"""Kubernetes and what scales it, machines, certificates."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from alerts.expressions import total
from alerts.model import Alert, Group, Severity, Site, Team
from infra.phases import Compute
from infra.scrapes import asks

_ticket: Final = partial(Alert, severity=Severity.TICKET, team=Team.PLATFORM, dashboard="trellis-kubernetes")
_page: Final = partial(Alert, severity=Severity.PAGE, team=Team.PLATFORM, dashboard="trellis-kubernetes")
_machine_ticket: Final = partial(_ticket, dashboard="trellis-machine")
_machine_page: Final = partial(_page, dashboard="trellis-machine")
_DAY_S: Final = 86_400


def kubernetes(site: Site) -> Sequence[Group]:
    if site.phase.fleet.compute is Compute.INSTANCE:
        return ()
    keda = _keda(site) if asks(site.phase, "keda") else iter(())
    return (
        Group("kubernetes-workloads", [*_pods(site), *_rollouts(), *_disruptions()]),
        Group("kubernetes-capacity", [*_nodes(), *_volumes(), *_scaling(), *_karpenter(site), *keda]),
    )


def _pods(site: Site) -> Iterator[Alert]:
    crashing = f'kube_pod_container_status_waiting_reason{{reason="CrashLoopBackOff"}}[{site.pace(300)}]'
    yield _ticket(
        name="KubePodCrashLooping",
        expr=(
            f"max by (namespace, pod, container) (max_over_time({crashing}))"
            " * on (namespace, pod) group_left (node) max by (namespace, pod, node) (kube_pod_info) > 0"
        ),
        hold_s=600,
        summary="{{ $labels.container }} of {{ $labels.namespace }}/{{ $labels.pod }} falls each time it starts",
        description="The log of its last run tells why: `kubectl logs --previous`.",
    )
    yield _ticket(
        name="KubePodPending",
        expr='sum by (namespace, pod) (kube_pod_status_phase{phase="Pending"}) > 0',
        hold_s=900,
        summary="{{ $labels.namespace }}/{{ $labels.pod }} has not been placed or started for a quarter of an hour",
        description="No node has room for it, or its image or volume cannot be had: `kubectl describe pod` says which.",
    )
    yield _ticket(
        name="KubeJobFailed",
        expr='max by (namespace, job_name) (kube_job_failed{condition="true"}) > 0',
        hold_s=0,
        summary="The job {{ $labels.namespace }}/{{ $labels.job_name }} failed",
        description="What it does was not done. Read its log, start it again, then delete the failed one.",
    )


def _rollouts() -> Iterator[Alert]:
    yield _ticket(
        name="KubeRolloutStuck",
        # A rollout that adds before it takes away keeps all the old pods while the new ones do not come up.
        expr=(
            "kube_deployment_spec_replicas > kube_deployment_status_replicas_available"
            " or kube_deployment_spec_replicas and on (namespace, deployment)"
            ' kube_deployment_status_condition{condition="Progressing", status="false"} == 1'
        ),
        hold_s=900,
        summary="{{ $labels.namespace }}/{{ $labels.deployment }} has not had its {{ $value }} pods for 15 minutes",
        description="A release does not come up, or pods fall and are not replaced. Look at its newest pods.",
    )
    yield _ticket(
        name="KubeHpaAtMaximum",
        expr=(
            "kube_horizontalpodautoscaler_status_current_replicas >= kube_horizontalpodautoscaler_spec_max_replicas"
            " and kube_horizontalpodautoscaler_spec_max_replicas > kube_horizontalpodautoscaler_spec_min_replicas"
        ),
        hold_s=900,
        summary="{{ $labels.horizontalpodautoscaler }} runs {{ $value }} pods, as many as it may",
        description="More load than now makes answers slow. Is the load real? Then raise the phase's `fleet.most`.",
    )


def _disruptions() -> Iterator[Alert]:
    yield _ticket(
        name="KubeDisruptionsBlocked",
        expr=(
            "kube_poddisruptionbudget_status_pod_disruptions_allowed == 0"
            " and kube_poddisruptionbudget_status_expected_pods > 0"
        ),
        hold_s=3600,
        summary="Not one pod of {{ $labels.namespace }}/{{ $labels.poddisruptionbudget }} may be moved",
        description="Nodes that hold them cannot be drained or updated. Its pods are not ready, or it is too strict.",
    )


def _nodes() -> Iterator[Alert]:
    yield _ticket(
        name="KubeNodeNotReady",
        expr='max by (node) (kube_node_status_condition{condition="Ready", status="true"}) == 0',
        hold_s=300,
        summary="The node {{ $labels.node }} is not ready",
        description="Its pods are being placed elsewhere. Karpenter replaces it; look whether it does.",
    )


def _volumes() -> Iterator[Alert]:
    free = "kubelet_volume_stats_available_bytes / kubelet_volume_stats_capacity_bytes"
    left = f"min by (namespace, persistentvolumeclaim) ({free})"
    yield _ticket(
        name="KubeVolumeFilling",
        expr=f"{left} < 0.15",
        hold_s=600,
        summary="{{ $labels.persistentvolumeclaim }} has {{ $value | humanizePercentage }} left",
        description="Enlarge the claim before it is full: the volume grows while it is in use.",
    )
    yield _page(
        name="KubeVolumeFull",
        expr=f"{left} < 0.03",
        hold_s=60,
        summary="{{ $labels.persistentvolumeclaim }} has {{ $value | humanizePercentage }} left",
        description="What writes to it stops in minutes. Enlarge the claim now.",
    )


def _scaling() -> Iterator[Alert]:
    condition = 'kube_horizontalpodautoscaler_status_condition{condition="ScalingActive", status="false"}'
    yield _ticket(
        name="KubeHpaBlind",
        expr=f"max by (namespace, horizontalpodautoscaler) ({condition}) > 0",
        hold_s=900,
        summary="{{ $labels.horizontalpodautoscaler }} cannot read what it scales by",
        description="It keeps the pods that it has, whatever the load. Look at the metrics server or at KEDA.",
    )


def _karpenter(site: Site) -> Iterator[Alert]:
    failed = 'karpenter_cloudprovider_errors_total{method="Create"}'
    yield _ticket(
        name="KarpenterCannotLaunch",
        expr=f"{total(site, failed, 900, 'error')} > 2",
        hold_s=300,
        summary="Karpenter could not launch {{ $value | humanize }} nodes in 15 minutes: {{ $labels.error }}",
        description="Pods wait for nodes. No capacity: allow more instance types or zones. Else: role or quota.",
    )


def _keda(site: Site) -> Iterator[Alert]:
    yield _ticket(
        name="KedaErrors",
        expr=f"{total(site, 'keda_scaled_object_errors_total', 900, 'namespace', 'scaledObject')} > 5",
        hold_s=300,
        summary="KEDA cannot scale {{ $labels.scaledObject }}: {{ $value | humanize }} errors in a quarter of an hour",
        description="Its workers do not follow the queue. It usually cannot reach Prometheus, or the query is wrong.",
    )


def nodes(site: Site) -> Sequence[Group]:
    return (Group("nodes", [*_disks(), *_load(site)]),)


def _disks() -> Iterator[Alert]:
    left = (
        'min by (instance, mountpoint) (node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs"}'
        ' / node_filesystem_size_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs"})'
    )
    yield _machine_ticket(
        name="NodeDiskFilling",
        expr=f"{left} < 0.15",
        hold_s=600,
        summary="{{ $labels.mountpoint }} of {{ $labels.instance }} has {{ $value | humanizePercentage }} left",
        description="Find what grew: logs, images, the data folder. Then make room or enlarge the disk.",
    )
    yield _machine_page(
        name="NodeDiskFull",
        expr=f"{left} < 0.03",
        hold_s=60,
        summary="{{ $labels.mountpoint }} of {{ $labels.instance }} has {{ $value | humanizePercentage }} left",
        description="What writes there fails in minutes; a database stops. Make room now.",
    )


def _load(site: Site) -> Iterator[Alert]:
    window = site.pace(300)
    yield _machine_ticket(
        name="NodeMemoryLow",
        expr="node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.1",
        hold_s=900,
        summary="{{ $labels.instance }} has {{ $value | humanizePercentage }} of its memory left",
        description="The system starts to end processes when it is gone. Look which one grows.",
    )
    yield _machine_ticket(
        name="NodeCpuBusy",
        expr=f'1 - avg by (instance) (rate(node_cpu_seconds_total{{mode="idle"}}[{window}])) > 0.9',
        hold_s=1800,
        summary="The processors of {{ $labels.instance }} are {{ $value | humanizePercentage }} busy",
        description="Requests wait for a turn. Look what takes it, and whether this machine carries too much.",
    )
    yield _machine_ticket(
        name="NodeClockOff",
        expr="abs(node_timex_offset_seconds) > 0.05",
        hold_s=600,
        summary="The clock of {{ $labels.instance }} is {{ $value | humanizeDuration }} off",
        description="Tokens are refused, leases end early, traces do not line up. Look at its time service.",
    )


def certificates(site: Site) -> Sequence[Group]:
    return (Group("certificates", list(_certificates())),) if asks(site.phase, "cert-manager") else ()


def _certificates() -> Iterator[Alert]:
    left = "min by (namespace, name) (certmanager_certificate_expiration_timestamp_seconds) - time()"
    yield _ticket(
        name="CertificateExpiring",
        expr=f"{left} < {14 * _DAY_S}",
        hold_s=3600,
        summary="{{ $labels.namespace }}/{{ $labels.name }} expires in {{ $value | humanizeDuration }}",
        description="cert-manager should have renewed it by now. Its events and orders tell what is in the way.",
    )
    yield _page(
        name="CertificateExpiresSoon",
        expr=f"{left} < {2 * _DAY_S}",
        hold_s=600,
        summary="{{ $labels.namespace }}/{{ $labels.name }} expires in {{ $value | humanizeDuration }}",
        description="After that no client connects. Renew it by hand if cert-manager cannot.",
    )
    yield _ticket(
        name="CertificateNotReady",
        expr='max by (namespace, name) (certmanager_certificate_ready_status{condition="True"}) == 0',
        hold_s=1800,
        summary="{{ $labels.namespace }}/{{ $labels.name }} is not ready",
        description="It was not issued, or not renewed. Look at its order and challenge: usually DNS or the issuer.",
    )
