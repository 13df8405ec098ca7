"""What holds for every pod of a namespace: its security, its room, who may talk, whose pods go first."""

from collections.abc import Mapping
from typing import Final

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking
from pulumi_kubernetes.rbac import v1 as rbac
from pulumi_kubernetes.scheduling import v1 as scheduling
from pulumi_kubernetes.storage import v1 as storage

from infra.kubernetes.backends import Backends
from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, BATCH, CRITICAL, STANDARD, STATEFUL, labels
from infra.kubernetes.sizes import Room, rooms
from infra.settings import Stack

RELEASERS: Final = "trellis-releasers"
"""The group whose members may switch the colour and restart what runs; nobody is in it until an administrator says."""
_PRIORITIES: Final = (
    (CRITICAL, 1_000_000, "Users wait for it: API, poolers, vectors."),
    # A pod whose volume is in a zone can only come back there, and a sibling may have taken the zone's place meanwhile.
    (
        STATEFUL,
        1_000_000,
        "Its volume binds it to a zone, and nothing preempts it: telemetry with a disk.",
    ),
    (STANDARD, 100_000, "Nobody waits for it at once: workers, collectors and exporters without a volume."),
    (BATCH, 1_000, "It may be put off: snapshots, migrations that wait for room."),
)
_PROBES: Final = "169.254.7.127/32"
"""Istio's documentation, "Ambient and Kubernetes NetworkPolicy"."""
_SECURITY: Final = ("enforce", "audit", "warn")


class Guardrails(Part):
    """Namespaces with all that a pod in them has to keep.

    Args:
        key: ARN of the key that volumes are encrypted with; None where the cluster has its own class of volumes.
        mesh: our pods talk to each other by mutual TLS (`mesh.py`).
    """

    def __init__(
        self,
        stack: Stack,
        backends: Backends,
        key: pulumi.Input[str] | None,
        opts: pulumi.ResourceOptions,
        *,
        mesh: bool,
    ) -> None:
        super().__init__("Guardrails", stack, opts)
        self._mesh = mesh
        self._balanced = backends.proxies is not None
        for name, value, what in _PRIORITIES:
            scheduling.PriorityClass(
                name,
                metadata=meta.ObjectMetaArgs(name=name, labels=labels(name, "priority")),
                value=value,
                global_default=False,
                preemption_policy="Never" if name == BATCH else "PreemptLowerPriority",
                description=what,
                opts=self.child(),
            )
        for name, room in rooms(stack.phase, backends).items():
            self._namespace(name, room)
        if key is not None and backends.storage_class is not None:
            self._volumes(backends.storage_class, key)
        self._release()
        self.register_outputs({})

    def _namespace(self, name: str, room: Room) -> None:
        security = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in _SECURITY}
        mesh = {"istio.io/dataplane-mode": "ambient"} if self._mesh else {}
        # A new pod counts as ready once the load balancer sends to it: an old one does not leave before that.
        gates = {"elbv2.k8s.aws/pod-readiness-gate-inject": "enabled"} if self._balanced and name == APPS else {}
        namespace = core.Namespace(
            name,
            metadata=meta.ObjectMetaArgs(name=name, labels=labels(name, "namespace", **security, **mesh, **gates)),
            opts=self.child(),
        )
        about = meta.ObjectMetaArgs(name="trellis", namespace=name, labels=labels(name, "guardrails"))
        core.ResourceQuota(
            name,
            metadata=about,
            spec=core.ResourceQuotaSpecArgs(hard=_hard(room)),
            opts=self.child(depends_on=[namespace]),
        )
        core.LimitRange(
            name,
            metadata=about,
            spec=core.LimitRangeSpecArgs(limits=[_defaults()]),
            opts=self.child(depends_on=[namespace]),
        )
        self._closed(name, namespace)
        if self._mesh:
            self._probed(name, namespace)

    def _closed(self, name: str, namespace: core.Namespace) -> None:
        """Nobody in, nobody out, but to ask for names. What else is needed is said by `flows.py`."""
        networking.NetworkPolicy(
            f"{name}-closed",
            metadata=meta.ObjectMetaArgs(name="closed", namespace=name, labels=labels(name, "guardrails")),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(), policy_types=["Ingress", "Egress"]
            ),
            opts=self.child(depends_on=[namespace]),
        )
        system = meta.LabelSelectorArgs(match_labels={"kubernetes.io/metadata.name": "kube-system"})
        dns = meta.LabelSelectorArgs(match_labels={"k8s-app": "kube-dns"})
        networking.NetworkPolicy(
            f"{name}-names",
            metadata=meta.ObjectMetaArgs(name="names", namespace=name, labels=labels(name, "guardrails")),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(),
                policy_types=["Egress"],
                egress=[
                    networking.NetworkPolicyEgressRuleArgs(
                        to=[networking.NetworkPolicyPeerArgs(namespace_selector=system, pod_selector=dns)],
                        ports=[
                            networking.NetworkPolicyPortArgs(protocol=protocol, port=53) for protocol in ("UDP", "TCP")
                        ],
                    )
                ],
            ),
            opts=self.child(depends_on=[namespace]),
        )

    def _probed(self, name: str, namespace: core.Namespace) -> None:
        """In a mesh the kubelet's probes come from an address of the node's proxy, which is not the node's own."""
        networking.NetworkPolicy(
            f"{name}-probes",
            metadata=meta.ObjectMetaArgs(name="probes", namespace=name, labels=labels(name, "guardrails")),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(),
                policy_types=["Ingress"],
                ingress=[
                    networking.NetworkPolicyIngressRuleArgs(
                        from_=[networking.NetworkPolicyPeerArgs(ip_block=networking.IPBlockArgs(cidr=_PROBES))]
                    )
                ],
            ),
            opts=self.child(depends_on=[namespace]),
        )

    def _volumes(self, name: str, key: pulumi.Input[str]) -> None:
        storage.StorageClass(
            name,
            metadata=meta.ObjectMetaArgs(name=name, labels=labels(name, "volumes")),
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true", "kmsKeyId": key, "csi.storage.k8s.io/fstype": "ext4"},
            # What is on a volume outlives the claim: a person deletes it.
            reclaim_policy="Retain",
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            opts=self.child(),
        )

    def _release(self) -> None:
        """To switch the colour, to restart, to scale, and to see what came of it; nothing else: no Secret, no shell."""
        about = meta.ObjectMetaArgs(name="release", namespace=APPS, labels=labels("release", "guardrails"))
        rbac.Role(
            "release",
            metadata=about,
            rules=[
                _rule("", "services", ["get", "patch"], ["api"]),
                _rule("apps", "deployments", ["get", "list", "watch", "patch"]),
                _rule("apps", "deployments/scale", ["get", "patch"]),
                _rule("autoscaling", "horizontalpodautoscalers", ["get", "list"]),
                _rule("discovery.k8s.io", "endpointslices", ["get", "list"]),
                _rule("elbv2.k8s.aws", "targetgroupbindings", ["get"]),
                _rule("", "pods", ["get", "list", "watch"]),
                _rule("batch", "jobs", ["get", "list", "watch"]),
            ],
            opts=self.child(),
        )
        rbac.RoleBinding(
            "release",
            metadata=about,
            role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name="release"),
            subjects=[rbac.SubjectArgs(api_group="rbac.authorization.k8s.io", kind="Group", name=RELEASERS)],
            opts=self.child(),
        )


def _rule(group: str, resource: str, verbs: list[str], names: list[str] | None = None) -> rbac.PolicyRuleArgs:
    return rbac.PolicyRuleArgs(api_groups=[group], resources=[resource], verbs=verbs, resource_names=names)


def _hard(room: Room) -> Mapping[str, str]:
    return {
        "pods": str(room.pods),
        "requests.cpu": f"{room.cpu}m",
        "requests.memory": f"{room.memory}Mi",
        "limits.memory": f"{room.memory}Mi",
        "requests.storage": f"{room.disk}Gi",
        # Users come in by one way only.
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        **({"requests.nvidia.com/gpu": str(room.gpus)} if room.gpus else {}),
    }


def _defaults() -> core.LimitRangeItemArgs:
    """Of a container that says nothing, as one that somebody adds for a look: little."""
    return core.LimitRangeItemArgs(
        type="Container",
        default={"memory": "128Mi"},
        default_request={"cpu": "20m", "memory": "128Mi"},
    )
