"""What the internet reaches, and what is not deleted by mistake."""

import pytest

from infra.exposure import protected, public
from tests.support.infra import graph, resource

RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
CLUSTER = "aws:eks/cluster:Cluster"
OPEN = [
    ("aws:lb/loadBalancer:LoadBalancer", {"internal": False}),
    (RULE, {"cidrIpv4": "0.0.0.0/0", "fromPort": 443, "toPort": 443}),
    (RULE, {"cidrIpv6": "::/0", "fromPort": 1, "toPort": 2}),
    ("aws:ec2/securityGroup:SecurityGroup", {"ingress": [{"cidrBlocks": ["10.0.0.0/8", "0.0.0.0/0"]}]}),
    (CLUSTER, {"vpcConfig": {"endpointPublicAccess": True}}),
    ("aws:rds/instance:Instance", {"publiclyAccessible": True}),
    ("aws:ec2/instance:Instance", {"associatePublicIpAddress": True}),
    ("aws:ec2/eip:Eip", {}),
    ("kubernetes:core/v1:Service", {"spec": {"type": "LoadBalancer"}}),
    ("kubernetes:networking.k8s.io/v1:Ingress", {}),
]
CLOSED = [
    ("aws:lb/loadBalancer:LoadBalancer", {"internal": True}),
    (RULE, {"cidrIpv4": "10.0.0.0/8", "fromPort": 443, "toPort": 443}),
    (RULE, {"referencedSecurityGroupId": "sg-1"}),
    ("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule", {"cidrIpv4": "0.0.0.0/0"}),
    ("aws:ec2/securityGroup:SecurityGroup", {"egress": [{"cidrBlocks": ["0.0.0.0/0"]}]}),
    (CLUSTER, {"vpcConfig": {"endpointPublicAccess": False}}),
    ("aws:rds/instance:Instance", {"publiclyAccessible": False}),
    ("kubernetes:core/v1:Service", {"spec": {"type": "ClusterIP"}}),
]


@pytest.mark.parametrize(("kind", "inputs"), OPEN)
def test_what_the_internet_reaches_is_named_with_the_reason(kind, inputs):
    shown = resource("a", kind, inputs=inputs)
    assert public(graph(shown))[shown.urn]


@pytest.mark.parametrize(("kind", "inputs"), CLOSED)
def test_what_it_does_not_reach_is_not(kind, inputs):
    assert public(graph(resource("a", kind, inputs=inputs))) == {}


def test_ports_that_are_open_are_said():
    shown = resource("a", RULE, inputs={"cidrIpv4": "0.0.0.0/0", "fromPort": 80, "toPort": 443})
    assert public(graph(shown)) == {shown.urn: "port 80 to 443 is open to the internet"}


def test_protected_is_by_pulumi_or_by_aws():
    assert protected(resource("a", protect=True))
    assert protected(resource("a", inputs={"deletionProtection": True}))
    assert protected(resource("a", inputs={"enableDeletionProtection": True}))
    assert not protected(resource("a", inputs={"deletionProtection": False}))
