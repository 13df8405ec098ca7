"""What of a stack the internet can reach, and what is protected from being deleted by mistake."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from infra.recording import Graph, Resource

_PROTECTION: Final = ("deletionProtection", "enableDeletionProtection", "disableApiTermination")
ANYWHERE: Final = frozenset({"0.0.0.0/0", "::/0"})

_Reason = Callable[[Mapping[str, Any]], str | None]


def public(graph: Graph) -> Mapping[str, str]:
    """By URN: why a resource can be reached from the internet. What is not there cannot."""
    found = ((resource.urn, _reason(resource)) for resource in graph.resources)
    return {urn: reason for urn, reason in found if reason is not None}


def _reason(resource: Resource) -> str | None:
    reasons = _REASONS.get(resource.type)
    return reasons(resource.inputs) if reasons else None


def _when(reached: Callable[[Mapping[str, Any]], object], reason: str) -> _Reason:
    return lambda inputs: reason if reached(inputs) else None


def _open_port(inputs: Mapping[str, Any]) -> str | None:
    return f"port {_ports(inputs)} is open to the internet" if ANYWHERE & {*_networks(inputs)} else None


def _networks(inputs: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(inputs[key]) for key in ("cidrIpv4", "cidrIpv6") if inputs.get(key))


def _blocks(rule: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(rule.get("cidrBlocks") or ()), *(rule.get("ipv6CidrBlocks") or ()))


def _ports(inputs: Mapping[str, Any]) -> str:
    first, last = inputs.get("fromPort"), inputs.get("toPort")
    return f"{first}" if first == last else f"{first} to {last}"


def protected(resource: Resource) -> bool:
    """By Pulumi, which then refuses to delete it, or by AWS itself."""
    return resource.protect or any(resource.inputs.get(key) for key in _PROTECTION)


_DATABASE: Final = _when(lambda inputs: inputs.get("publiclyAccessible"), "the database has a public address")
_WAY_IN: Final = _when(lambda _: True, "a way into the cluster")
_PUBLIC: Final = _when(lambda _: True, "a public name or address")
_REASONS: Final[Mapping[str, _Reason]] = {
    "aws:lb/loadBalancer:LoadBalancer": _when(
        lambda inputs: not inputs.get("internal"), "an internet-facing load balancer"
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _open_port,
    "aws:ec2/securityGroup:SecurityGroup": _when(
        lambda inputs: any(ANYWHERE & {*_blocks(rule)} for rule in inputs.get("ingress") or ()),
        "a rule of its own lets in the whole internet",
    ),
    "aws:eks/cluster:Cluster": _when(
        lambda inputs: (inputs.get("vpcConfig") or {}).get("endpointPublicAccess"),
        "its API server has a public address",
    ),
    "aws:rds/instance:Instance": _DATABASE,
    "aws:rds/clusterInstance:ClusterInstance": _DATABASE,
    "aws:ec2/instance:Instance": _when(
        lambda inputs: inputs.get("associatePublicIpAddress"), "the instance has a public address"
    ),
    "aws:ec2/eip:Eip": _PUBLIC,
    "aws:globalaccelerator/accelerator:Accelerator": _PUBLIC,
    "aws:route53/record:Record": _PUBLIC,
    "kubernetes:core/v1:Service": _when(
        lambda inputs: (inputs.get("spec") or {}).get("type") == "LoadBalancer", "a Service that gets a load balancer"
    ),
    "kubernetes:networking.k8s.io/v1:Ingress": _WAY_IN,
    "kubernetes:gateway.networking.k8s.io/v1:Gateway": _WAY_IN,
}
