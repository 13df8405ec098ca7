"""What stacks tell each other: a typed contract between the one that exports and those that read."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pulumi

from infra.layout import StackName

Text = pulumi.Output[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutputs:
    """Of `<phase>-<region>-infra`. Lists are comma-separated. Secrets are named, never told.

    `database_writer`: the host that writes go to, in whichever region it is; `database_reader`: this region's, several
    where there are several replicas. `database_secret`: name or ARN in Secrets Manager of the owner's login, and
    `cache_secret` of the cache's, each with `username` and `password`. `database_group`: its security group.
    `store_networks`: where the stores' addresses are, the writer's in another region too.
    `global_cluster`: of the database, empty where it has one region. `registry`: where the app's images are pushed.
    `balancer_*`: the load balancer that the edge leads to; `target_group`: what the API's pods register in.
    Buckets: Qdrant's snapshots go below `qdrant/` of `backup_bucket`; Loki and Tempo have one each. `karpenter_queue`:
    of interruptions. `node_profile`: name of the instance profile of nodes that Karpenter makes. `private_routes`: ids
    of the tables of private subnets. `security_group`: of every node and pod. `vpc_cidr`: of the whole network;
    `balancer_cidrs`: of the subnets that the load balancer asks pods from. `certificate`: of the domain.
    `metrics_*`: of the way that other regions' Prometheus takes to this one's; empty where there is one region.
    """

    cluster_name: Text
    cluster_endpoint: Text
    cluster_ca: Text
    vpc: Text
    vpc_cidr: Text
    balancer_cidrs: Text
    private_subnets: Text
    private_routes: Text
    database_writer: Text
    database_reader: Text
    database_secret: Text
    database_group: Text
    global_cluster: Text
    store_networks: Text
    cache_endpoint: Text
    cache_secret: Text
    registry: Text
    backup_bucket: Text
    loki_bucket: Text
    tempo_bucket: Text
    karpenter_queue: Text
    node_profile: Text
    security_group: Text
    target_group: Text
    balancer_name: Text
    balancer_zone: Text
    balancer_arn: Text
    certificate: Text
    key_arn: Text
    metrics_name: Text
    metrics_zone: Text
    metrics_target_group: Text
    metrics_group: Text


def export(outputs: CellOutputs) -> None:
    for field in fields(outputs):
        pulumi.export(field.name, getattr(outputs, field.name))


def read(stack: StackName) -> CellOutputs:
    """Of a stack in the same organization and project. An output that is not there fails, naming it."""
    reference = pulumi.StackReference(str(stack), stack_name=f"{pulumi.get_organization()}/trellis/{stack}")
    found: Mapping[str, Any] = {field.name: reference.require_output(field.name) for field in fields(CellOutputs)}
    return CellOutputs(**found)
