"""What of AWS can be reached, and by whom."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from infra.exposure import ANYWHERE
from infra.policy.finding import Said, rule
from infra.recording import Graph, Resource

_INGRESS: Final = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
_GROUPS: Final = ("aws:ec2/securityGroup:SecurityGroup", "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
_EDGE: Final = (80, 443)
_DATABASES: Final = ("aws:rds/instance:Instance", "aws:rds/clusterInstance:ClusterInstance")


def _networks(given: Mapping[str, Any]) -> Sequence[str]:
    """Of a rule by itself, or of one within a group."""
    single = [given[key] for key in ("cidrIpv4", "cidrIpv6") if given.get(key)]
    return [*single, *(given.get("cidrBlocks") or ()), *(given.get("ipv6CidrBlocks") or ())]


def _ways_in(graph: Graph) -> Iterator[tuple[Resource, Mapping[str, Any]]]:
    for one in graph.of(_INGRESS):
        yield one, one.inputs
    for group in graph.of(*_GROUPS):
        for given in group.inputs.get("ingress") or ():
            yield group, given


def _at_edge(given: Mapping[str, Any]) -> bool:
    return given.get("fromPort") == given.get("toPort") and given.get("fromPort") in _EDGE


@rule("open-ports", "CIS AWS Foundations 5.2, 5.3")
def open_ports(graph: Graph) -> Said:
    for one, given in _ways_in(graph):
        if ANYWHERE & {*_networks(given)} and not _at_edge(given):
            ports = f"{given.get('fromPort')} to {given.get('toPort')}"
            yield one, f"Ports {ports} are open to the internet: only 80 and 443 may be."


@rule("groups-by-reference", "AWS Well-Architected SEC05-BP02")
def groups_by_reference(graph: Graph) -> Said:
    for one, given in _ways_in(graph):
        for network in set(_networks(given)) - ANYWHERE:
            yield one, f"It lets in whatever is in {network}: name the security group of who calls."


@rule("default-group", "CIS AWS Foundations 5.4")
def default_group(graph: Graph) -> Said:
    adopted = {one.parent for one in graph.of(_GROUPS[1])}
    for one in graph.of(_GROUPS[1]):
        if one.inputs.get("ingress") or one.inputs.get("egress"):
            yield one, "A network's default group lets something through: leave it empty."
    for one in graph.of("aws:ec2/vpc:Vpc"):
        if one.parent not in adopted:
            yield one, "Its default security group is AWS's own, open within: adopt it with no rules."


@rule("imdsv2", "CIS AWS Foundations 5.6; EKS best practices, security: IAM")
def imdsv2(graph: Graph) -> Said:
    templates = graph.of("aws:ec2/launchTemplate:LaunchTemplate")
    alone = [one for one in graph.of("aws:ec2/instance:Instance") if not one.inputs.get("launchTemplate")]
    classes = graph.of("kubernetes:karpenter.k8s.aws/v1:EC2NodeClass")
    for one in (*templates, *alone, *classes):
        given = (one.inputs.get("spec") or one.inputs).get("metadataOptions") or {}
        if given.get("httpTokens") != "required":
            yield one, "Its metadata is given without a token: set httpTokens to required."


@rule("public-databases", "CIS AWS Foundations 2.2.3")
def public_databases(graph: Graph) -> Said:
    for one in graph.of(*_DATABASES):
        if one.inputs.get("publiclyAccessible"):
            yield one, "The database has a public address: take it away."


@rule("private-api-server", "EKS best practices, security: cluster access")
def private_api_server(graph: Graph) -> Said:
    for one in graph.of("aws:eks/cluster:Cluster"):
        given = one.inputs.get("vpcConfig") or {}
        if given.get("endpointPublicAccess", True) and ANYWHERE & {*(given.get("publicAccessCidrs") or ANYWHERE)}:
            yield one, "The whole internet reaches its API server: close it, or name networks."


@rule("public-subnets", "AWS Security Hub EC2.15")
def public_subnets(graph: Graph) -> Said:
    for one in graph.of("aws:ec2/subnet:Subnet"):
        if one.inputs.get("mapPublicIpOnLaunch"):
            yield one, "Whatever starts in it gets a public address: give addresses one by one."


@rule("tls-listeners", "AWS Security Hub ELB.1, ELB.17")
def tls_listeners(graph: Graph) -> Said:
    for one in graph.of("aws:lb/listener:Listener"):
        actions = {action.get("type") for action in one.inputs.get("defaultActions") or ()}
        if one.inputs.get("protocol") == "HTTP" and actions != {"redirect"}:
            yield one, "It answers without TLS: redirect to 443."
        if one.inputs.get("protocol") == "HTTPS" and "TLS13" not in str(one.inputs.get("sslPolicy")):
            yield one, "It takes old versions of TLS: choose a policy of TLS 1.3 and 1.2."
