"""Who talks to operators, and to whom they talk: each namespace of theirs is closed but for that."""

from collections.abc import Sequence
from typing import Final

from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from infra.kubernetes.flows import MESH_PORT
from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, labels, metadata
from infra.kubernetes.watching import API_SERVER

_PROMETHEUS: Final = 9090
_POD_IDENTITY: Final = "169.254.170.23/32"
_OF_NAMESPACE: Final = "kubernetes.io/metadata.name"


def closed(part: Part, namespace: core.Namespace, name: str, asked_at: Sequence[int]) -> None:
    """`asked_at`: ports on which the API server calls webhooks, and Prometheus asks."""
    _policy(part, namespace, name, "closed", networking.NetworkPolicySpecArgs(pod_selector=_ALL, policy_types=_BOTH))
    _policy(
        part,
        namespace,
        name,
        "operator",
        networking.NetworkPolicySpecArgs(
            pod_selector=_ALL, policy_types=_BOTH, ingress=_incoming(asked_at), egress=_outgoing()
        ),
    )


_ALL: Final = meta.LabelSelectorArgs()
_BOTH: Final = ["Ingress", "Egress"]


def _incoming(asked_at: Sequence[int]) -> list[networking.NetworkPolicyIngressRuleArgs]:
    """The API server has no pod that a policy could name: the ports are open, and their TLS says who asks."""
    return [
        networking.NetworkPolicyIngressRuleArgs(ports=_ports(*asked_at, MESH_PORT)),
        networking.NetworkPolicyIngressRuleArgs(from_=[networking.NetworkPolicyPeerArgs(pod_selector=_ALL)]),
    ]


def _outgoing() -> list[networking.NetworkPolicyEgressRuleArgs]:
    """The API server and AWS by TLS, names, each other, Prometheus, and EKS's agent that gives a pod its role."""
    names = [networking.NetworkPolicyPortArgs(protocol=protocol, port=53) for protocol in ("UDP", "TCP")]
    agent = networking.NetworkPolicyPeerArgs(ip_block=networking.IPBlockArgs(cidr=_POD_IDENTITY))
    return [
        networking.NetworkPolicyEgressRuleArgs(ports=_ports(*API_SERVER)),
        networking.NetworkPolicyEgressRuleArgs(to=[_namespace("kube-system")], ports=names),
        networking.NetworkPolicyEgressRuleArgs(to=[networking.NetworkPolicyPeerArgs(pod_selector=_ALL)]),
        networking.NetworkPolicyEgressRuleArgs(to=[_namespace(TELEMETRY)], ports=_ports(_PROMETHEUS, MESH_PORT)),
        networking.NetworkPolicyEgressRuleArgs(to=[agent], ports=_ports(80)),
    ]


def _ports(*ports: int) -> list[networking.NetworkPolicyPortArgs]:
    return [networking.NetworkPolicyPortArgs(protocol="TCP", port=port) for port in ports]


def _namespace(name: str) -> networking.NetworkPolicyPeerArgs:
    return networking.NetworkPolicyPeerArgs(
        namespace_selector=meta.LabelSelectorArgs(match_labels={_OF_NAMESPACE: name})
    )


def _policy(
    part: Part, namespace: core.Namespace, name: str, kind: str, spec: networking.NetworkPolicySpecArgs
) -> None:
    networking.NetworkPolicy(
        f"{name}-{kind}",
        metadata=metadata(kind, name, labels(name, "flows")),
        spec=spec,
        opts=part.child(depends_on=[namespace]),
    )
