"""Kubernetes."""

from tests.support.alert_quartets import quartet

CASES = (
    *quartet(
        "KubePodCrashLooping",
        {
            "severity": "ticket",
            "team": "platform",
            "namespace": "trellis",
            "pod": "api-0",
            "container": "api",
            "node": "node-a",
        },
        summary="api of trellis/api-0 falls each time it starts",
        description="The log of its last run tells why: `kubectl logs --previous`.",
        dashboard="trellis-kubernetes",
        at="30m",
        fires={
            (
                'kube_pod_container_status_waiting_reason{namespace="trellis",pod="api-0",'
                'container="api",reason="CrashLoopBackOff",uid="1"}'
            ): "0x5 1 0x3 1x40",
            'kube_pod_info{namespace="trellis",pod="api-0",node="node-a",uid="1"}': "1x60",
        },
        under={
            (
                'kube_pod_container_status_waiting_reason{namespace="trellis",pod="api-0",'
                'container="api",reason="CrashLoopBackOff",uid="1"}'
            ): "0x22 1x3 0x9",
            'kube_pod_info{namespace="trellis",pod="api-0",node="node-a",uid="1"}': "1x60",
        },
        total={
            (
                'kube_pod_container_status_waiting_reason{namespace="trellis",pod="api-0",'
                'container="api",reason="CrashLoopBackOff",uid="1"}'
            ): "1x40",
            'kube_pod_info{namespace="trellis",pod="api-0",node="node-a",uid="1"}': "1x60",
        },
    ),
    *quartet(
        "KubePodPending",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "pod": "api-0"},
        summary="trellis/api-0 has not been placed or started for a quarter of an hour",
        description=(
            "No node has room for it, or its image or volume cannot be had: `kubectl describe pod` says which."
        ),
        dashboard="trellis-kubernetes",
        at="30m",
        fires={'kube_pod_status_phase{namespace="trellis",pod="api-0",phase="Pending",uid="1"}': "0x5 1x40"},
        under={
            'kube_pod_status_phase{namespace="trellis",pod="api-0",phase="Pending",uid="1"}': "1x10 0x30",
            'kube_pod_status_phase{namespace="trellis",pod="api-0",phase="Running",uid="1"}': "0x10 1x30",
        },
        total={'kube_pod_status_phase{namespace="trellis",pod="api-0",phase="Pending",uid="1"}': "1x40"},
    ),
    *quartet(
        "KubeJobFailed",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "job_name": "migrate-1"},
        summary="The job trellis/migrate-1 failed",
        description="What it does was not done. Read its log, start it again, then delete the failed one.",
        dashboard="trellis-kubernetes",
        at="10m",
        fires={'kube_job_failed{namespace="trellis",job_name="migrate-1",condition="true"}': "0x3 1x20"},
        under={'kube_job_failed{namespace="trellis",job_name="migrate-1",condition="true"}': "0x20"},
        total={'kube_job_failed{namespace="trellis",job_name="migrate-1",condition="true"}': "1x20"},
    ),
    *quartet(
        "KubeRolloutStuck",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "deployment": "api"},
        summary="trellis/api has not had its 3 pods for 15 minutes",
        description=("A release does not come up, or pods fall and are not replaced. Look at its newest pods."),
        dashboard="trellis-kubernetes",
        at="30m",
        fires={
            'kube_deployment_spec_replicas{namespace="trellis",deployment="api"}': "3x40",
            'kube_deployment_status_replicas_available{namespace="trellis",deployment="api"}': "3x40",
            (
                'kube_deployment_status_condition{namespace="trellis",deployment="api",condition="Progressing",'
                'reason="ProgressDeadlineExceeded",status="false"}'
            ): "0x5 1x40",
        },
        under={
            'kube_deployment_spec_replicas{namespace="trellis",deployment="api"}': "3x40",
            'kube_deployment_status_replicas_available{namespace="trellis",deployment="api"}': "2x10 3x40",
        },
        total={
            'kube_deployment_spec_replicas{namespace="trellis",deployment="api"}': "3x40",
            'kube_deployment_status_replicas_available{namespace="trellis",deployment="api"}': "0x40",
        },
    ),
    *quartet(
        "KubeHpaAtMaximum",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "horizontalpodautoscaler": "api"},
        summary="api runs 30 pods, as many as it may",
        description=("More load than now makes answers slow. Is the load real? Then raise the phase's `fleet.most`."),
        dashboard="trellis-kubernetes",
        at="30m",
        fires={
            (
                'kube_horizontalpodautoscaler_status_current_replicas{namespace="trellis",'
                'horizontalpodautoscaler="api"}'
            ): "30x40",
            (
                'kube_horizontalpodautoscaler_spec_max_replicas{namespace="trellis",horizontalpodautoscaler="api"}'
            ): "30x40",
            (
                'kube_horizontalpodautoscaler_spec_min_replicas{namespace="trellis",horizontalpodautoscaler="api"}'
            ): "10x40",
        },
        under={
            (
                'kube_horizontalpodautoscaler_status_current_replicas{namespace="trellis",'
                'horizontalpodautoscaler="api"}'
            ): "29x40",
            (
                'kube_horizontalpodautoscaler_spec_max_replicas{namespace="trellis",horizontalpodautoscaler="api"}'
            ): "30x40",
            (
                'kube_horizontalpodautoscaler_spec_min_replicas{namespace="trellis",horizontalpodautoscaler="api"}'
            ): "10x40",
        },
        total={
            (
                'kube_horizontalpodautoscaler_status_current_replicas{namespace="trellis",'
                'horizontalpodautoscaler="api"}'
            ): "30x40",
            (
                'kube_horizontalpodautoscaler_spec_max_replicas{namespace="trellis",horizontalpodautoscaler="api"}'
            ): "30x40",
            (
                'kube_horizontalpodautoscaler_spec_min_replicas{namespace="trellis",horizontalpodautoscaler="api"}'
            ): "3x40",
        },
    ),
    *quartet(
        "KubeHpaBlind",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "horizontalpodautoscaler": "api"},
        summary="api cannot read what it scales by",
        description=("It keeps the pods that it has, whatever the load. Look at the metrics server or at KEDA."),
        dashboard="trellis-kubernetes",
        at="30m",
        fires={
            (
                'kube_horizontalpodautoscaler_status_condition{namespace="trellis",'
                'horizontalpodautoscaler="api",condition="ScalingActive",status="false"}'
            ): "0x5 1x40"
        },
        under={
            (
                'kube_horizontalpodautoscaler_status_condition{namespace="trellis",'
                'horizontalpodautoscaler="api",condition="ScalingActive",status="false"}'
            ): "0x40",
            (
                'kube_horizontalpodautoscaler_status_condition{namespace="trellis",'
                'horizontalpodautoscaler="api",condition="ScalingActive",status="true"}'
            ): "1x40",
        },
        total={
            (
                'kube_horizontalpodautoscaler_status_condition{namespace="trellis",'
                'horizontalpodautoscaler="api",condition="ScalingActive",status="false"}'
            ): "1x40"
        },
    ),
    *quartet(
        "KubeDisruptionsBlocked",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "poddisruptionbudget": "api"},
        summary="Not one pod of trellis/api may be moved",
        description=("Nodes that hold them cannot be drained or updated. Its pods are not ready, or it is too strict."),
        dashboard="trellis-kubernetes",
        at="1h20m",
        fires={
            (
                'kube_poddisruptionbudget_status_pod_disruptions_allowed{namespace="trellis",poddisruptionbudget="api"}'
            ): "1x5 0x100",
            ('kube_poddisruptionbudget_status_expected_pods{namespace="trellis",poddisruptionbudget="api"}'): "3x100",
        },
        under={
            (
                'kube_poddisruptionbudget_status_pod_disruptions_allowed{namespace="trellis",poddisruptionbudget="api"}'
            ): "0x100",
            ('kube_poddisruptionbudget_status_expected_pods{namespace="trellis",poddisruptionbudget="api"}'): "0x100",
        },
        total={
            (
                'kube_poddisruptionbudget_status_pod_disruptions_allowed{namespace="trellis",poddisruptionbudget="api"}'
            ): "0x100",
            ('kube_poddisruptionbudget_status_expected_pods{namespace="trellis",poddisruptionbudget="api"}'): "3x100",
        },
    ),
    *quartet(
        "KubeNodeNotReady",
        {"severity": "ticket", "team": "platform", "node": "node-a"},
        summary="The node node-a is not ready",
        description="Its pods are being placed elsewhere. Karpenter replaces it; look whether it does.",
        dashboard="trellis-kubernetes",
        at="15m",
        fires={
            'kube_node_status_condition{node="node-a",condition="Ready",status="true"}': "1x5 0x20",
            'kube_node_status_condition{node="node-b",condition="Ready",status="true"}': "1x30",
        },
        under={'kube_node_status_condition{node="node-a",condition="Ready",status="true"}': "1x12 0x20"},
        total={'kube_node_status_condition{node="node-a",condition="Ready",status="true"}': "0x30"},
    ),
    *quartet(
        "KubeVolumeFilling",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "persistentvolumeclaim": "data-qdrant-0"},
        summary="data-qdrant-0 has 10% left",
        description="Enlarge the claim before it is full: the volume grows while it is in use.",
        dashboard="trellis-kubernetes",
        at="20m",
        fires={
            (
                'kubelet_volume_stats_available_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "100x30",
            (
                'kubelet_volume_stats_capacity_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "1000x30",
        },
        under={
            (
                'kubelet_volume_stats_available_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "160x30",
            (
                'kubelet_volume_stats_capacity_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "1000x30",
        },
        total={
            (
                'kubelet_volume_stats_available_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "0x30",
            (
                'kubelet_volume_stats_capacity_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "1000x30",
        },
        total_summary="data-qdrant-0 has 0% left",
    ),
    *quartet(
        "KubeVolumeFull",
        {"severity": "page", "team": "platform", "namespace": "trellis", "persistentvolumeclaim": "data-qdrant-0"},
        summary="data-qdrant-0 has 2% left",
        description="What writes to it stops in minutes. Enlarge the claim now.",
        dashboard="trellis-kubernetes",
        at="20m",
        fires={
            (
                'kubelet_volume_stats_available_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "20x30",
            (
                'kubelet_volume_stats_capacity_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "1000x30",
        },
        under={
            (
                'kubelet_volume_stats_available_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "40x30",
            (
                'kubelet_volume_stats_capacity_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "1000x30",
        },
        total={
            (
                'kubelet_volume_stats_available_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "0x30",
            (
                'kubelet_volume_stats_capacity_bytes{namespace="trellis",'
                'persistentvolumeclaim="data-qdrant-0",node="a"}'
            ): "1000x30",
        },
        total_summary="data-qdrant-0 has 0% left",
    ),
    *quartet(
        "KarpenterCannotLaunch",
        {"severity": "ticket", "team": "platform", "error": "InsufficientCapacityError"},
        summary="Karpenter could not launch 15 nodes in 15 minutes: InsufficientCapacityError",
        description=("Pods wait for nodes. No capacity: allow more instance types or zones. Else: role or quota."),
        dashboard="trellis-kubernetes",
        at="50m",
        fires={
            (
                'karpenter_cloudprovider_errors_total{controller="nodeclaim.lifecycle",'
                'method="Create",provider="aws",error="InsufficientCapacityError"}'
            ): "0+1x60"
        },
        under={
            (
                'karpenter_cloudprovider_errors_total{controller="nodeclaim.lifecycle",'
                'method="Create",provider="aws",error="InsufficientCapacityError"}'
            ): "0+0.1x60"
        },
        total={
            (
                'karpenter_cloudprovider_errors_total{controller="nodeclaim.lifecycle",'
                'method="Create",provider="aws",error="InsufficientCapacityError"}'
            ): "0+10x60"
        },
        total_summary="Karpenter could not launch 150 nodes in 15 minutes: InsufficientCapacityError",
    ),
    *quartet(
        "KedaErrors",
        {"severity": "ticket", "team": "platform", "namespace": "trellis", "scaledObject": "worker"},
        summary="KEDA cannot scale worker: 15 errors in a quarter of an hour",
        description=("Its workers do not follow the queue. It usually cannot reach Prometheus, or the query is wrong."),
        dashboard="trellis-kubernetes",
        at="50m",
        fires={'keda_scaled_object_errors_total{namespace="trellis",scaledObject="worker"}': "0+1x60"},
        under={'keda_scaled_object_errors_total{namespace="trellis",scaledObject="worker"}': "0+0.2x60"},
        total={'keda_scaled_object_errors_total{namespace="trellis",scaledObject="worker"}': "0+4x60"},
        total_summary="KEDA cannot scale worker: 60 errors in a quarter of an hour",
    ),
)
