"""What a region's cell asks AWS for: who reaches its cluster, in which order it comes up, and names that AWS takes."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.http.streaming import HEARTBEAT_S
from app.serving import KEEP_ALIVE_S
from infra.aws.balancer import IDLE_S, LEAVING_S
from infra.kubernetes.environment import TERMINATION_S
from infra.offline import STACKS, graphs
from infra.recording import Graph, Resource

SMALL, MEDIUM = "small-eu-central-1-infra", "medium-eu-central-1-infra"
OFFICE = "203.0.113.0/24"
# By how much names of the phase and the region with the longest ones are longer than those of `small`.
LONGER = len("multi-region") - len("small") + len("ap-northeast-1") - len("eu-central-1")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Graph]:
    """The medium one's operators work from an office."""
    folder: Path = tmp_path_factory.mktemp("stacks")
    for name in (SMALL, MEDIUM):
        shutil.copy(STACKS / f"Pulumi.{name}.yaml", folder)
    with (folder / f"Pulumi.{MEDIUM}.yaml").open("a") as file:
        file.write(f"  trellis:operators: {OFFICE}\n")
    return graphs((SMALL, MEDIUM), folder)


def one(graph: Graph, kind: str, name: str) -> Resource:
    (found,) = [resource for resource in graph.of(kind) if resource.name == name]
    return found


def after(graph: Graph, resource: Resource) -> set[str]:
    """Types and names of what has to be there first, however indirectly."""
    by_urn = {other.urn: other for other in graph.resources}
    seen: set[str] = set()
    waiting = [resource.urn]
    while waiting:
        for urn in by_urn[waiting.pop()].depends_on:
            if urn in by_urn and urn not in seen:
                seen.add(urn)
                waiting.append(urn)
    return {f"{by_urn[urn].type}::{by_urn[urn].name}" for urn in seen}


def test_the_api_server_answers_its_operators_networks_and_otherwise_nobody_outside(cells: Mapping[str, Graph]) -> None:
    private, reached = (
        one(cells[name], "aws:eks/cluster:Cluster", "cluster").inputs["vpcConfig"] for name in (SMALL, MEDIUM)
    )
    assert private["endpointPrivateAccess"]
    assert not private["endpointPublicAccess"]
    assert "publicAccessCidrs" not in private
    assert reached["endpointPrivateAccess"]
    assert reached["endpointPublicAccess"]
    assert reached["publicAccessCidrs"] == [OFFICE]


def test_nodes_start_once_they_can_reach_out_and_have_a_network_for_pods(cells: Mapping[str, Graph]) -> None:
    first = after(cells[SMALL], one(cells[SMALL], "aws:eks/nodeGroup:NodeGroup", "bootstrap"))
    addons = {f"aws:eks/addon:Addon::{name}" for name in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")}
    assert addons <= first
    assert "aws:ec2/route:Route::private-eu-central-1a" in first
    assert "aws:iam/rolePolicyAttachment:RolePolicyAttachment::bootstrap-AmazonEKSWorkerNodePolicy" in first
    assert "aws:eks/addon:Addon::coredns" not in first


def test_records_begin_once_their_bucket_lets_them_in(cells: Mapping[str, Graph]) -> None:
    for kind, name in (("aws:ec2/flowLog:FlowLog", "flows"), ("aws:lb/loadBalancer:LoadBalancer", "api")):
        assert "aws:s3/bucketPolicy:BucketPolicy::logs" in after(cells[SMALL], one(cells[SMALL], kind, name))


def test_each_zone_has_a_way_out_of_its_own_where_the_phase_pays_for_it(cells: Mapping[str, Graph]) -> None:
    for name, gateways in ((SMALL, 1), (MEDIUM, 3)):
        graph = cells[name]
        assert len(graph.of("aws:ec2/natGateway:NatGateway")) == gateways
        links = graph.of("aws:ec2/routeTableAssociation:RouteTableAssociation")
        tables = {link.inputs["routeTableId"] for link in links if link.name.startswith("private-")}
        assert len(tables) == gateways
        assert len([link for link in links if link.name.startswith("private-")]) == 3


def test_nodes_hand_out_no_addresses_and_make_no_profiles(cells: Mapping[str, Graph]) -> None:
    """Those are rights of one service account each: what runs on a node has them not."""
    attached = [
        (resource.inputs["role"], resource.inputs["policyArn"].rpartition("/")[2])
        for resource in cells[SMALL].of("aws:iam/rolePolicyAttachment:RolePolicyAttachment")
    ]
    assert ("trellis-small-network-eu-central-1", "AmazonEKS_CNI_Policy") in attached
    assert not any(policy == "AmazonEKS_CNI_Policy" and "-node-" in role for role, policy in attached)
    karpenter = json.loads(one(cells[SMALL], "aws:iam/rolePolicy:RolePolicy", "karpenter").inputs["policy"])
    actions = {action for statement in karpenter["Statement"] for action in statement["Action"]}
    assert {"ec2:CreateFleet", "iam:PassRole"} <= actions
    assert not {action for action in actions if "InstanceProfile" in action} - {
        "iam:GetInstanceProfile",
        "iam:ListInstanceProfiles",
    }


def test_names_and_policies_are_as_short_as_aws_wants_them_in_every_phase(cells: Mapping[str, Graph]) -> None:
    graph = cells[SMALL]
    limits = {
        "aws:iam/role:Role": 64,
        "aws:lb/loadBalancer:LoadBalancer": 32,
        "aws:lb/targetGroup:TargetGroup": 32,
        "aws:s3/bucket:Bucket": 63,
    }
    for kind, limit in limits.items():
        named = [resource.inputs.get("name") or resource.inputs["bucket"] for resource in graph.of(kind)]
        assert named
        assert max(len(name) + LONGER for name in named) <= limit, (kind, named)
    # What a role may hold of its own (IAM counts no spaces).
    for policy in graph.of("aws:iam/rolePolicy:RolePolicy"):
        assert len("".join(policy.inputs["policy"].split())) + 50 * LONGER < 10_240, policy.name


def test_no_side_ends_a_connection_under_the_other() -> None:
    """The app says something on a stream in time, and keeps idle connections longer than the load balancer does; which
    lets a pod that leaves finish what it has."""
    assert 2 * HEARTBEAT_S < IDLE_S < KEEP_ALIVE_S
    assert LEAVING_S >= TERMINATION_S
