"""Who talks to whom, as a table; everything else is closed (`guardrails.py`).

A flow is said once and makes two policies: its source may send, its target may be sent to.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from infra.kubernetes.part import Part
from infra.kubernetes.pods import NAME, labels
from infra.settings import Stack

MESH_PORT: Final = 15008
"""Where a mesh's tunnels end: what is inside one is told apart by the mesh's own policies."""
_INTERNET: Final = "0.0.0.0/0"
_NOT_INTERNET: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10")


@dataclass(frozen=True, slots=True)
class Pods:
    """All pods of one name in a namespace."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Namespaces:
    """All pods of namespaces that are not ours, by name."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """Addresses outside the cluster: networks, comma-separated."""

    cidrs: pulumi.Input[str]
    but: tuple[str, ...] = ()


INTERNET: Final = Networks(_INTERNET, _NOT_INTERNET)
"""Whatever is no private address; the metadata of the instance is none of it."""

End = Pods | Namespaces | Networks


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    source: End
    target: End
    ports: tuple[int, ...]
    protocols: tuple[str, ...] = ("TCP",)


class Flows(Part):
    """A policy for each of our pods' names.

    Args:
        mesh: between pods, traffic also comes through the mesh's tunnels.
    """

    def __init__(
        self,
        stack: Stack,
        flows: Sequence[Flow],
        opts: pulumi.ResourceOptions,
        *,
        mesh: bool,
        after: Sequence[pulumi.Resource] = (),
    ) -> None:
        super().__init__("Flows", stack, opts, after=after)
        self._mesh = mesh
        for pods in _ours(flows):
            self._policy(pods, [f for f in flows if f.target == pods], [f for f in flows if f.source == pods])
        self.register_outputs({})

    def _policy(self, pods: Pods, incoming: Sequence[Flow], outgoing: Sequence[Flow]) -> None:
        kinds = [*(["Ingress"] if incoming else []), *(["Egress"] if outgoing else [])]
        networking.NetworkPolicy(
            f"{pods.namespace}-{pods.name}",
            metadata=meta.ObjectMetaArgs(name=pods.name, namespace=pods.namespace, labels=labels(pods.name, "flows")),
            spec=networking.NetworkPolicySpecArgs(
                pod_selector=meta.LabelSelectorArgs(match_labels={NAME: pods.name}),
                policy_types=kinds,
                ingress=[
                    networking.NetworkPolicyIngressRuleArgs(from_=_peers(flow.source), ports=self._ports(flow))
                    for flow in incoming
                ]
                or None,
                egress=[
                    networking.NetworkPolicyEgressRuleArgs(to=_peers(flow.target), ports=self._ports(flow))
                    for flow in outgoing
                ]
                or None,
            ),
            opts=self.child(),
        )

    def _ports(self, flow: Flow) -> list[networking.NetworkPolicyPortArgs]:
        tunnel = (MESH_PORT,) if self._mesh and isinstance(flow.source, Pods) and isinstance(flow.target, Pods) else ()
        asked = [(protocol, port) for protocol in flow.protocols for port in flow.ports]
        tunnels = [("TCP", port) for port in tunnel]
        return [networking.NetworkPolicyPortArgs(protocol=protocol, port=port) for protocol, port in (*asked, *tunnels)]


def _ours(flows: Iterable[Flow]) -> Sequence[Pods]:
    ends = {end for flow in flows for end in (flow.source, flow.target) if isinstance(end, Pods)}
    return sorted(ends, key=lambda pods: (pods.namespace, pods.name))


def _peers(end: End) -> pulumi.Input[Sequence[networking.NetworkPolicyPeerArgs]]:
    match end:
        case Pods(namespace, name):
            return [
                networking.NetworkPolicyPeerArgs(
                    namespace_selector=_named([namespace]),
                    pod_selector=meta.LabelSelectorArgs(match_labels={NAME: name}),
                )
            ]
        case Namespaces(names):
            return [networking.NetworkPolicyPeerArgs(namespace_selector=_named(names))]
        case Networks(cidrs, but):
            return pulumi.Output.from_input(cidrs).apply(
                lambda text: [_block(cidr, but) for cidr in text.split(",") if cidr]
            )


def _named(names: Sequence[str]) -> meta.LabelSelectorArgs:
    return meta.LabelSelectorArgs(
        match_expressions=[
            meta.LabelSelectorRequirementArgs(key="kubernetes.io/metadata.name", operator="In", values=list(names))
        ]
    )


def _block(cidr: str, but: Sequence[str]) -> networking.NetworkPolicyPeerArgs:
    return networking.NetworkPolicyPeerArgs(ip_block=networking.IPBlockArgs(cidr=cidr, except_=list(but) or None))
