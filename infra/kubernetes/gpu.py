"""What tells of GPUs: one exporter on each node that has them."""

from typing import Final

from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from infra.kubernetes import pods
from infra.kubernetes.exporters import NODES, daemon_set
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, value
from infra.phases import Pod
from infra.settings import Stack
from infra.versions import DCGM_EXPORTER

PORT: Final = 9400
GPU_NODES: Final = {"trellis.dev/pool": "gpu"}
"""Label of the nodes of Karpenter's pool with GPUs."""
GPU_TAINT: Final = "nvidia.com/gpu"
_PODS_OF_DEVICES: Final = "/var/lib/kubelet/pod-resources"


class GpuExporter(Part):
    """NVIDIA's exporter. It runs as root, since only root may ask the kubelet whose GPU is whose, with no capability:
    the figures of profiling, which need one, are on no board."""

    def __init__(self, stack: Stack, parent: Part) -> None:
        super().__init__("GpuExporter", stack, parent.child())
        pods.account("dcgm-exporter", NODES, "exporter", self.child())
        folder = core.HostPathVolumeSourceArgs(path=_PODS_OF_DEVICES, type="Directory")
        scratch, mounts = pods.scratch(("tmp", "/tmp", "64Mi"))  # noqa: S108 - the container's own
        container = core.ContainerArgs(
            name="dcgm",
            image=DCGM_EXPORTER.reference,
            env=[
                value("DCGM_EXPORTER_LISTEN", f":{PORT}"),
                value("DCGM_EXPORTER_KUBERNETES", "true"),
                # Seen by the container runtime: all GPUs, none of them taken from a pod that serves.
                value("NVIDIA_VISIBLE_DEVICES", "all"),
                value("NVIDIA_DRIVER_CAPABILITIES", "utility,compute"),
            ],
            ports=[pods.container_port("http", PORT)],
            resources=pods.needs(Pod(100, 512)),
            security_context=pods.locked(),
            startup_probe=pods.http_probe("/health", PORT, every_s=5, failures=36),
            readiness_probe=pods.http_probe("/health", PORT, every_s=10, failures=3),
            liveness_probe=pods.http_probe("/health", PORT, every_s=20, failures=6),
            volume_mounts=[
                core.VolumeMountArgs(name="pod-resources", mount_path=_PODS_OF_DEVICES, read_only=True),
                *mounts,
            ],
        )
        volumes = [core.VolumeArgs(name="pod-resources", host_path=folder), *scratch]
        daemon_set(self, "dcgm-exporter", "dcgm", container, volumes, after=[], uid=0, nodes=GPU_NODES)
        self._asked_by_prometheus()
        self.register_outputs({})

    def _asked_by_prometheus(self) -> None:
        peer = networking.NetworkPolicyPeerArgs(
            namespace_selector=meta.LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": TELEMETRY}),
            pod_selector=meta.LabelSelectorArgs(match_labels=pods.selected("prometheus")),
        )
        networking.NetworkPolicy(
            f"{NODES}-dcgm",
            metadata=pods.metadata("dcgm", NODES, pods.labels("dcgm", "flows")),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(match_labels=pods.selected("dcgm")),
                policy_types=["Ingress", "Egress"],
                ingress=[
                    networking.NetworkPolicyIngressRuleArgs(
                        from_=[peer], ports=[networking.NetworkPolicyPortArgs(protocol="TCP", port=PORT)]
                    )
                ],
            ),
            opts=self.child(),
        )
