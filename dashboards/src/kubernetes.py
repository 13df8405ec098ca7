"""The cluster: pods, what scales them, nodes, and certificates.

Names are those of kube-state-metrics 2, the kubelet's cAdvisor, Karpenter 1, KEDA 2 and cert-manager 1.
"""

from typing import Final

from dashboards.src.house import Dashboard, Panel, Query, Row, bars, board, label_variable, series, stat, table
from dashboards.src.promql import rate
from infra.phases import Phase
from infra.scrapes import asks

UID: Final = "trellis-kubernetes"
_HERE: Final = '{namespace=~"$namespace"}'
_CONTAINERS: Final = '{namespace=~"$namespace", container!=""}'
_HPA: Final = "kube_horizontalpodautoscaler"


def used(phase: Phase) -> bool:
    """Where there is a cluster."""
    return asks(phase, "kube-state-metrics")


def build() -> Dashboard:
    return board(
        UID,
        "Trellis: Kubernetes",
        "Whether the cluster has room: pods, restarts, autoscalers, nodes, disruption budgets, certificates.",
        tags=["platform"],
        variables=[label_variable("namespace", "namespace", "kube_pod_info")],
        rows=[
            Row("Is it healthy", [*_pods_well(), *_room()]),
            Row("Pods", _pods()),
            Row("Autoscaling", _autoscaling()),
            Row("Use of what was asked for", _use()),
            Row("Nodes and volumes", _nodes()),
            Row("Guards", _guards()),
        ],
    )


def _pods_well() -> list[Panel]:
    return [
        stat(
            "Replicas missing",
            "Pods that deployments want and that are not available. Above 0 for minutes: see Pods by state, then "
            "the events of the pods.",
            "short",
            Query(f"sum(kube_deployment_spec_replicas{_HERE}) - sum(kube_deployment_status_replicas_available{_HERE})"),
            steps=[(0, "green"), (1, "yellow"), (3, "red")],
        ),
        stat(
            "Pending pods",
            "Pods that have no node, or whose images are not there yet. Karpenter brings a node in about a minute.",
            "short",
            Query('sum(kube_pod_status_phase{namespace=~"$namespace", phase="Pending"})'),
            steps=[(0, "green"), (1, "yellow"), (5, "red")],
        ),
        stat(
            "Restarts an hour",
            "Containers that ended and were started again. See Why containers ended, and the log of the one before.",
            "short",
            Query(f"3600 * {rate('kube_pod_container_status_restarts_total', where=_HERE)}"),
            steps=[(0, "green"), (1, "yellow"), (5, "red")],
            decimals=0,
        ),
    ]


def _room() -> list[Panel]:
    return [
        stat(
            "Fullest autoscaler",
            "Replicas of the fullest autoscaler, as a share of what it may have at most. At 100 %, more load is not "
            "answered with more pods: raise the phase's `most`, or look at what made the load.",
            "percentunit",
            Query(f"max({_HPA}_status_current_replicas{_HERE} / {_HPA}_spec_max_replicas{_HERE})"),
            steps=[(0, "green"), (0.8, "yellow"), (1, "red")],
        ),
        stat(
            "Nodes not ready",
            "Nodes whose kubelet does not say that it is ready. Their pods are moved after five minutes.",
            "short",
            Query('sum(kube_node_status_condition{condition="Ready", status!="true"})'),
            steps=[(0, "green"), (1, "red")],
        ),
        stat(
            "Next certificate ends in",
            "Time until the first certificate is no longer valid. cert-manager renews 30 days before: under 20 days, "
            "renewal fails. See Certificates.",
            "s",
            Query("min(certmanager_certificate_expiration_timestamp_seconds) - time()"),
            steps=[(0, "red"), (604_800, "yellow"), (1_728_000, "green")],
        ),
    ]


def _pods() -> list[Panel]:
    waiting = 'kube_pod_container_status_waiting_reason{namespace=~"$namespace"}'
    return [
        series(
            "Pods by state",
            "Pods by phase. 'Failed' pods stay until they are removed; 'Unknown' ones are on a node that is gone.",
            "short",
            Query(f"sum by (phase) (kube_pod_status_phase{_HERE}) > 0", "{{phase}}"),
            stacked=True,
        ),
        series(
            "Why containers wait",
            "Containers that do not run, by reason. CrashLoopBackOff: its own log; ImagePullBackOff: the tag or the "
            "registry; CreateContainerConfigError: a secret or a setting is missing.",
            "short",
            Query(f"sum by (reason) ({waiting}) > 0", "{{reason}}"),
        ),
        table(
            "Why containers ended",
            "Containers that were started again: how often, and why they ended last. OOMKilled: more memory, or a "
            "leak; Error: its log.",
            Query(f"sum by (pod, container) (kube_pod_container_status_restarts_total{_HERE}) > 0", "restarts"),
            Query(
                f"max by (pod, container, reason) (kube_pod_container_status_last_terminated_reason{_HERE})", "ended"
            ),
            columns={"pod": "string", "container": "string", "reason": "string", "restarts": "short"},
            width=8,
        ),
    ]


def _autoscaling() -> list[Panel]:
    return [
        series(
            "Replicas and what they may be",
            "Replicas of each autoscaler, and its most. A line at its most is not able to follow the load.",
            "short",
            Query(f"max by (horizontalpodautoscaler) ({_HPA}_status_current_replicas{_HERE})", _hpa("now")),
            Query(f"max by (horizontalpodautoscaler) ({_HPA}_status_desired_replicas{_HERE})", _hpa("wanted")),
            Query(f"max by (horizontalpodautoscaler) ({_HPA}_spec_max_replicas{_HERE})", _hpa("most")),
        ),
        series(
            "What KEDA reads",
            "The figure of each scaler. One that stays level under load is read from a query without data.",
            "short",
            Query(
                f"max by (scaledObject, metric) (keda_scaler_metrics_value{_HERE})",
                "{{scaledObject}} {{metric}}",
            ),
        ),
        series(
            "Nodes of each pool",
            "CPUs that Karpenter has provisioned, and the pool's limit. At the limit, pods stay pending.",
            "short",
            Query('max by (nodepool) (karpenter_nodepools_usage{resource_type="cpu"})', "{{nodepool}} in use"),
            Query('max by (nodepool) (karpenter_nodepools_limit{resource_type="cpu"})', "{{nodepool}} limit"),
        ),
    ]


def _hpa(what: str) -> str:
    return f"{{{{horizontalpodautoscaler}}}} {what}"


def _use() -> list[Panel]:
    asked = "kube_pod_container_resource_requests"
    return [
        series(
            "CPU used of asked for",
            "By workload's container. Far over 100 %: pods take what others asked for; far below: money for nothing.",
            "percentunit",
            Query(
                f"{rate('container_cpu_usage_seconds_total', 'container', where=_CONTAINERS)} / "
                f'sum by (container) ({asked}{{namespace=~"$namespace", resource="cpu"}})',
                "{{container}}",
            ),
        ),
        series(
            "Memory used of asked for",
            "By workload's container. Near its limit the kernel ends it (OOMKilled).",
            "percentunit",
            Query(
                f"sum by (container) (container_memory_working_set_bytes{_CONTAINERS}) / "
                f'sum by (container) ({asked}{{namespace=~"$namespace", resource="memory"}})',
                "{{container}}",
            ),
        ),
        bars(
            "CPU asked for on each node",
            "Share of a node's CPUs that pods asked for. All near 100 % and pods pending: Karpenter cannot bring more.",
            "percentunit",
            Query(
                'sum by (node) (kube_pod_container_resource_requests{resource="cpu"}) / '
                'sum by (node) (kube_node_status_allocatable{resource="cpu"})',
                "{{node}}",
            ),
        ),
    ]


def _nodes() -> list[Panel]:
    return [
        series(
            "Nodes that come and go",
            "Nodes an hour that Karpenter asked for, ended, and took away for a reason of its own. Many at once: pods "
            "move and their caches are cold.",
            "short",
            Query(f"3600 * {rate('karpenter_nodeclaims_created_total', 'nodepool')}", "{{nodepool}} created"),
            Query(f"3600 * {rate('karpenter_nodeclaims_terminated_total', 'nodepool')}", "{{nodepool}} ended"),
            Query(f"3600 * {rate('karpenter_nodeclaims_disrupted_total', 'reason')}", "{{reason}}"),
        ),
        series(
            "Errors of Karpenter and KEDA",
            "Errors a minute: of the cloud (InsufficientCapacityError: other instance types are tried), and of KEDA "
            "as it read a scaler's figure (replicas stay as they are meanwhile).",
            "short",
            Query(f"60 * {rate('karpenter_cloudprovider_errors_total', 'error')}", "{{error}}"),
            Query(f"60 * {rate('keda_scaler_detail_errors_total', 'scaledObject')}", "KEDA: {{scaledObject}}"),
        ),
        series(
            "Fullest volumes",
            "Share in use of the ten fullest volumes. Qdrant and Prometheus stop writing at 100 %.",
            "percentunit",
            Query(
                "topk(10, max by (namespace, persistentvolumeclaim) "
                f"(kubelet_volume_stats_used_bytes{_HERE} / kubelet_volume_stats_capacity_bytes{_HERE}))",
                "{{namespace}} {{persistentvolumeclaim}}",
            ),
            maximum=1,
        ),
    ]


def _guards() -> list[Panel]:
    return [
        table(
            "Disruption budgets",
            "Pods of each budget that are well, must be, and may be taken away now. 0 that may: a node cannot be "
            "drained until pods recover.",
            Query(
                f"min by (poddisruptionbudget) (kube_poddisruptionbudget_status_current_healthy{_HERE})",
                "well",
            ),
            Query(
                f"min by (poddisruptionbudget) (kube_poddisruptionbudget_status_desired_healthy{_HERE})",
                "must be",
            ),
            Query(
                f"min by (poddisruptionbudget) (kube_poddisruptionbudget_status_pod_disruptions_allowed{_HERE})",
                "may go",
            ),
            columns={"poddisruptionbudget": "string", "well": "short", "must be": "short", "may go": "short"},
        ),
        table(
            "Certificates",
            "When each certificate ends, and whether it is ready (1). Not ready: describe its CertificateRequest and "
            "Order.",
            Query("min by (namespace, name) (certmanager_certificate_expiration_timestamp_seconds) * 1000", "ends"),
            Query('min by (namespace, name) (certmanager_certificate_ready_status{condition="True"})', "ready"),
            columns={"namespace": "string", "name": "string", "ends": "dateTimeAsIso", "ready": "short"},
        ),
    ]
