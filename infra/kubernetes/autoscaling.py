"""How many there are: by the processor's use, and for workers by how long the oldest job waits."""

from collections.abc import Sequence
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.autoscaling import v2 as autoscaling

from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, TELEMETRY, labels, metadata
from infra.kubernetes.sizes import WORKERS_LEAST
from infra.settings import Stack

BUSY_PERCENT: Final = 65
"""Of what a pod is promised of a core: the rest is for the seconds until another one is ready."""
WAIT_S: Final = 30
"""One worker for each so many seconds that the oldest job has waited."""
_CALM_S: Final = 300


def scales(most_workers: int) -> bool:
    """Whether there is anything to scale."""
    return most_workers > WORKERS_LEAST


class Autoscaling(Part):
    """Scales `api-<colour>` and `worker`.

    Args:
        keda: KEDA is in the cluster; without it, workers are scaled by the processor alone.
    """

    def __init__(
        self,
        stack: Stack,
        colours: Sequence[str],
        opts: pulumi.ResourceOptions,
        *,
        keda: bool,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("Autoscaling", stack, opts, after=after)
        fleet, server = stack.phase.fleet, stack.phase.server
        assert server is not None
        for colour in colours:
            self._by_processor(f"api-{colour}", "trellis-api", fleet.least, fleet.most)
        if scales(server.workers):
            if keda:
                self._by_waiting(server.workers)
            else:
                self._by_processor("worker", "trellis-worker", WORKERS_LEAST, server.workers)
        self.register_outputs({})

    def _by_processor(self, name: str, of: str, least: int, most: int) -> None:
        autoscaling.HorizontalPodAutoscaler(
            name,
            metadata=metadata(name, APPS, labels(of, "autoscaling")),
            spec=autoscaling.HorizontalPodAutoscalerSpecArgs(
                min_replicas=least,
                max_replicas=most,
                scale_target_ref=autoscaling.CrossVersionObjectReferenceArgs(
                    api_version="apps/v1", kind="Deployment", name=name
                ),
                metrics=[
                    autoscaling.MetricSpecArgs(
                        type="Resource",
                        resource=autoscaling.ResourceMetricSourceArgs(
                            name="cpu",
                            target=autoscaling.MetricTargetArgs(type="Utilization", average_utilization=BUSY_PERCENT),
                        ),
                    )
                ],
                behavior=_behavior(),
            ),
            opts=self.child(),
        )

    def _by_waiting(self, most: int) -> None:
        CustomResource(
            "worker",
            api_version="keda.sh/v1alpha1",
            kind="ScaledObject",
            metadata=metadata("worker", APPS, labels("trellis-worker", "autoscaling")),
            spec=_scaled("worker", most),
            opts=self.child(),
        )


def _scaled(deployment: str, most: int) -> dict[str, Any]:
    waiting = {
        "type": "prometheus",
        # Of the age itself, not for each worker: the more there are, the same is asked of all together.
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": f"http://prometheus.{TELEMETRY}:9090",
            "query": "max(trellis_jobs_oldest_age_seconds)",
            "threshold": str(WAIT_S),
        },
    }
    busy = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(BUSY_PERCENT)}}
    return {
        "scaleTargetRef": {"name": deployment},
        "minReplicaCount": WORKERS_LEAST,
        "maxReplicaCount": most,
        "pollingInterval": 15,
        "cooldownPeriod": _CALM_S,
        # Prometheus away says nothing of the queue: half of them, until it is back.
        "fallback": {"failureThreshold": 4, "replicas": max(WORKERS_LEAST, most // 2)},
        "triggers": [waiting, busy],
    }


def _behavior() -> autoscaling.HorizontalPodAutoscalerBehaviorArgs:
    """Up at once, twice as many at most; down slowly, since a pod that goes takes its caches along."""
    return autoscaling.HorizontalPodAutoscalerBehaviorArgs(
        scale_up=autoscaling.HPAScalingRulesArgs(
            stabilization_window_seconds=0,
            policies=[autoscaling.HPAScalingPolicyArgs(type="Percent", value=100, period_seconds=15)],
        ),
        scale_down=autoscaling.HPAScalingRulesArgs(
            stabilization_window_seconds=_CALM_S,
            policies=[autoscaling.HPAScalingPolicyArgs(type="Percent", value=25, period_seconds=60)],
        ),
    )
