"""Models on our own GPU nodes: vLLM, one pod a node, as many as there is work for."""

from collections.abc import Sequence
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.apps import v1 as apps
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes import pods
from infra.kubernetes.flows import INTERNET, Flow, Pods
from infra.kubernetes.gpu import GPU_NODES, GPU_TAINT
from infra.kubernetes.part import Part
from infra.kubernetes.pods import CRITICAL, MODELS, TELEMETRY, own, value
from infra.phases import ModelServer
from infra.settings import Stack
from infra.versions import MODEL_REVISIONS, VLLM

PORT: Final = 8000
AT_ONCE: Final = 64
"""Requests that one pod works on at once; the others wait in it."""
BUSY: Final = 48
"""Of them, on the average: over it another pod is asked for. Whoever waits, waits behind `AT_ONCE` others."""
_CONTEXT: Final = 16_384
_MEMORY_SHARE: Final = 0.9
_CACHE_GIB: Final = 40
_SHARED_MEMORY: Final = "1Gi"
_START_S: Final = 1_200
"""Until a pod serves: an image of 10 GB, weights of 6 GB, and the model's graphs."""
_FINISHES_S: Final = 120
_PROMETHEUS: Final = f"http://prometheus.{TELEMETRY}:9090"
_FOLDER: Final = "/cache"


class Vllm(Part):
    """The Deployment, what scales it, and its address `vllm.trellis-models:8000`."""

    def __init__(
        self,
        stack: Stack,
        models: ModelServer,
        storage_class: str | None,
        opts: pulumi.ResourceOptions,
        *,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("Vllm", stack, opts, after=after)
        pods.account("vllm", MODELS, "models", self.child())
        pods.service("vllm", MODELS, "models", _SELECTOR, [("http", PORT)], self.child())
        pods.budget("vllm", MODELS, "models", _SELECTOR, self.child())
        # No number of replicas: KEDA's is the one that holds.
        serves = apps.Deployment(
            "vllm",
            metadata=pods.metadata(
                "vllm",
                MODELS,
                _LABELS,
                # It may have none, and none is ready before a GPU node is there: nobody waits for that.
                {"pulumi.com/skipAwait": "true"},
            ),
            spec=apps.DeploymentSpecArgs(
                revision_history_limit=5,
                progress_deadline_seconds=2 * _START_S,
                selector=meta.LabelSelectorArgs(match_labels=_SELECTOR),
                strategy=apps.DeploymentStrategyArgs(
                    type="RollingUpdate",
                    rolling_update=apps.RollingUpdateDeploymentArgs(max_surge=1, max_unavailable=0),
                ),
                template=core.PodTemplateSpecArgs(
                    metadata=meta.ObjectMetaArgs(labels=_LABELS), spec=_pod(models, storage_class)
                ),
            ),
            opts=self.child(),
        )
        CustomResource(
            "vllm",
            api_version="keda.sh/v1alpha1",
            kind="ScaledObject",
            metadata=pods.metadata("vllm", MODELS, _LABELS),
            spec=scaling(models),
            opts=self.child(depends_on=[serves]),
        )
        self.register_outputs({})


_SELECTOR: Final = pods.selected("vllm")
_LABELS: Final = pods.labels("vllm", "models")


def flows() -> Sequence[Flow]:
    """Weights come from the hub; who asks the models is among the apps' flows."""
    return [Flow(Pods(MODELS, "vllm"), INTERNET, (443,))]


def _pod(models: ModelServer, storage_class: str | None) -> core.PodSpecArgs:
    folders, mounts = pods.scratch(("tmp", "/tmp", "2Gi"))  # noqa: S108 - the container's own
    shared = core.VolumeArgs(
        name="shm", empty_dir=core.EmptyDirVolumeSourceArgs(medium="Memory", size_limit=_SHARED_MEMORY)
    )
    return core.PodSpecArgs(
        service_account_name="vllm",
        automount_service_account_token=False,
        enable_service_links=False,
        priority_class_name=CRITICAL,
        security_context=pods.unprivileged(10001),
        termination_grace_period_seconds=_FINISHES_S,
        node_selector=GPU_NODES,
        tolerations=[core.TolerationArgs(key=GPU_TAINT, operator="Exists", effect="NoSchedule")],
        topology_spread_constraints=pods.spread(_SELECTOR, zones=False),
        affinity=pods.apart(_SELECTOR, required=True),
        volumes=[_weights(storage_class), shared, *folders],
        containers=[
            _container(
                models,
                [
                    core.VolumeMountArgs(name="cache", mount_path=_FOLDER),
                    core.VolumeMountArgs(name="shm", mount_path="/dev/shm"),  # noqa: S108 - for what the model needs
                    *mounts,
                ],
            )
        ],
    )


def _weights(storage_class: str | None) -> core.VolumeArgs:
    """A disk of the pod's own, which goes with it: several pods of a Deployment cannot share one."""
    more: dict[str, Any] = {"storage_class_name": storage_class} if storage_class else {}
    return core.VolumeArgs(
        name="cache",
        ephemeral=core.EphemeralVolumeSourceArgs(
            volume_claim_template=core.PersistentVolumeClaimTemplateArgs(
                metadata=meta.ObjectMetaArgs(labels=_LABELS),
                spec=core.PersistentVolumeClaimSpecArgs(
                    access_modes=["ReadWriteOnce"],
                    resources=core.VolumeResourceRequirementsArgs(requests={"storage": f"{_CACHE_GIB}Gi"}),
                    **more,
                ),
            )
        ),
    )


def _container(models: ModelServer, mounts: Sequence[core.VolumeMountArgs]) -> core.ContainerArgs:
    gpu, memory = {GPU_TAINT: "1"}, {"memory": f"{models.pod.memory}Mi"}
    return core.ContainerArgs(
        name="vllm",
        image=VLLM.reference,
        image_pull_policy="IfNotPresent",
        # Said whole: what the image runs by itself has changed from version to version.
        command=["vllm", "serve", models.model],
        args=_arguments(models),
        env=[
            own("POD_IP", "status.podIP"),
            # Its user has no name in the image, and nowhere to write but here.
            *(value(name, "vllm") for name in ("USER", "LOGNAME")),
            *(value(name, _FOLDER) for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME")),
            value("VLLM_NO_USAGE_STATS", "1"),
            value("HF_HUB_DISABLE_TELEMETRY", "1"),
        ],
        ports=[pods.container_port("http", PORT)],
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": f"{models.pod.cpu}m", **memory, **gpu}, limits={**memory, **gpu}
        ),
        security_context=pods.locked(),
        startup_probe=pods.http_probe("/health", PORT, every_s=10, failures=_START_S // 10),
        readiness_probe=pods.http_probe("/health", PORT, every_s=10, failures=3),
        liveness_probe=pods.http_probe("/health", PORT, every_s=30, failures=4, timeout_s=10),
        volume_mounts=list(mounts),
    )


def _arguments(models: ModelServer) -> list[str]:
    revision = MODEL_REVISIONS.get(models.model)
    return [
        *([f"--revision={revision}"] if revision else []),
        f"--served-model-name={models.model}",
        f"--port={PORT}",
        f"--max-model-len={_CONTEXT}",
        f"--max-num-seqs={AT_ONCE}",
        f"--gpu-memory-utilization={_MEMORY_SHARE}",
        # One GPU a node, so the model is not divided.
        "--tensor-parallel-size=1",
        "--enable-auto-tool-choice",
        "--tool-call-parser=hermes",
    ]


def scaling(models: ModelServer) -> dict[str, Any]:
    """By the clock at least `least`; by what is asked of them up to `most`.

    At night the last one goes where the phase lets it: then the app's calls go to the bought provider, and when that
    becomes a habit (a call every five seconds for ten minutes) one of ours is started again.
    """
    begins, ends = models.day_utc
    clock = {
        "type": "cron",
        "metadata": {
            "timezone": "Etc/UTC",
            "start": f"0 {begins} * * *",
            "end": f"0 {ends} * * *",
            "desiredReplicas": str(models.least),
        },
    }
    asked = "sum(vllm:num_requests_waiting) + sum(vllm:num_requests_running)"
    return {
        "scaleTargetRef": {"name": "vllm"},
        "minReplicaCount": models.night_least,
        "maxReplicaCount": models.most,
        "pollingInterval": 15,
        "cooldownPeriod": 900,
        "triggers": [
            clock,
            _prometheus(asked, threshold=BUSY, wakes=0),
            _prometheus("sum(rate(trellis_model_fallbacks_total[10m]))", threshold=20, wakes=0.2),
        ],
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    # A node takes minutes to come: one that has just come is not sent away.
                    "scaleDown": {
                        "stabilizationWindowSeconds": 900,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
                    },
                    "scaleUp": {
                        "stabilizationWindowSeconds": 30,
                        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                    },
                }
            }
        },
    }


def _prometheus(query: str, *, threshold: float, wakes: float) -> dict[str, Any]:
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": _PROMETHEUS,
            "query": query,
            "threshold": f"{threshold:g}",
            "activationThreshold": f"{wakes:g}",
            # Without a pod there is no such series: that is none, not an error.
            "ignoreNullValues": "true",
        },
    }
