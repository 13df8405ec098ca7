"""What a region's cluster stands on, and its data stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws import rights
from infra.aws.balancer import Balancer, BalancerArgs
from infra.aws.certificates import Certificate, CertificateArgs
from infra.aws.cluster import Cluster, ClusterArgs
from infra.aws.federation import Federation, FederationArgs
from infra.aws.firewall import Firewall
from infra.aws.identity import Identity
from infra.aws.keys import Keys
from infra.aws.names import Name
from infra.aws.network import Network, NetworkArgs
from infra.aws.nodes import Nodes, NodesArgs
from infra.aws.storage import Bucket, BucketArgs, log_writers
from infra.layout import before
from infra.naming import prefix, tags
from infra.outputs import CellOutputs, Text, export
from infra.programs.stores import Site, Stores, stores
from infra.regions import region
from infra.settings import Cell, Stack

_LOGS_DAYS = 365
# Days that what is kept in each of them stays.
_BUCKETS: Final = MappingProxyType({"backups": 35, "loki": 90, "tempo": 90})


def provider(stack: Stack, account: str, where: str, name: str = "aws") -> aws.Provider:
    """The one that every resource of a stack is made by: it refuses another account before anything is made."""
    return aws.Provider(
        name,
        region=where,
        allowed_account_ids=[account],
        default_tags=aws.ProviderDefaultTagsArgs(tags=tags(stack)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the other parts of a cell stand on. `by`: options that name the provider."""

    by: pulumi.ResourceOptions
    key: pulumi.Output[str]
    logs: Bucket
    network: Network
    cluster: Cluster


def cell(stack: Stack) -> None:
    given = stack.given
    assert isinstance(given, Cell)
    by = pulumi.ResourceOptions(providers=[provider(stack, given.account, stack.region)])
    ground = _ground(stack, given, by)
    cluster = ground.cluster
    nodes = Nodes(
        stack,
        NodesArgs(cluster=cluster.name, node_role=cluster.node_role.arn, key=ground.key, account=given.account),
        by,
    )
    ways = _way_in(stack, given, ground)
    data = stores(stack, given, _site(ground))
    buckets = {
        name: Bucket(stack, name, given.account, BucketArgs(kept_days=days, key=ground.key), by)
        for name, days in _BUCKETS.items()
    }
    _identity(stack, given, ground, ways, data, buckets)
    export(CellOutputs(**_of_ground(ground, nodes), **_of_ways(ways), **data.outputs(), **_of_buckets(buckets)))


def _ground(stack: Stack, given: Cell, by: pulumi.ResourceOptions) -> Ground:
    keys = Keys(stack, given.account, by)
    logs = _logs(stack, given, by)
    network = _network(stack, given, logs, by)
    return Ground(by=by, key=keys.arn, logs=logs, network=network, cluster=_cluster(stack, given, keys, network, by))


def _logs(stack: Stack, given: Cell, by: pulumi.ResourceOptions) -> Bucket:
    """With S3's own key: load balancers write with no other."""
    name = f"{prefix(stack)}-logs-{given.account}-{stack.region}"
    args = BucketArgs(kept_days=_LOGS_DAYS, key=None)
    return Bucket(stack, "logs", given.account, args, by, log_writers(name, given.account))


def _network(stack: Stack, given: Cell, logs: Bucket, by: pulumi.ResourceOptions) -> Network:
    sizes = stack.phase.network
    assert sizes is not None
    args = NetworkArgs(
        cidr=given.cidr,
        zones=region(stack.region).zones,
        nats=sizes.nats,
        endpoints=sizes.endpoints,
        flow_logs=logs.arn,
        cluster=f"{prefix(stack)}-cluster",
    )
    return Network(stack, args, by)


def _cluster(stack: Stack, given: Cell, keys: Keys, network: Network, by: pulumi.ResourceOptions) -> Cluster:
    sizes = stack.phase.nodes
    assert sizes is not None
    args = ClusterArgs(
        subnets=network.private,
        nodes=sizes,
        key=keys.arn,
        operators=given.operators,
        admins=given.admins,
    )
    return Cluster(stack, args, by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How users come in, and the other regions' Prometheus where there are other regions."""

    balancer: Balancer
    certificate: Certificate
    federation: Federation | None

    @property
    def target_groups(self) -> Sequence[pulumi.Output[str]]:
        """What pods of the cluster register in."""
        return [self.balancer.target_group, *([self.federation.target_group] if self.federation else [])]


def _way_in(stack: Stack, given: Cell, ground: Ground) -> Ways:
    certificate = Certificate(
        stack, CertificateArgs(domain=given.domain, zone=given.zone, proves=not before(stack.name)), ground.by
    )
    args = BalancerArgs(
        vpc=ground.network.vpc.id,
        subnets=ground.network.public,
        certificate=certificate.arn,
        pods=ground.cluster.group,
        logs=ground.logs.name,
    )
    balancer = Balancer(stack, args, ground.by)
    Firewall(stack, balancer.arn, ground.key, ground.by)
    if len(stack.phase.fleet.regions) == 1:
        # Of several regions, the edge's stack has the name.
        Name(stack, given.domain, given.zone, (balancer.dns, balancer.zone), ground.by)
        return Ways(balancer=balancer, certificate=certificate, federation=None)
    # In the public subnets as the other balancer, whose addresses network policies name; it has private ones only.
    network = ground.network
    seen = FederationArgs(vpc=network.vpc.id, subnets=network.public, pods=ground.cluster.group)
    return Ways(balancer=balancer, certificate=certificate, federation=Federation(stack, seen, ground.by))


def _site(ground: Ground) -> Site:
    return Site(
        vpc=ground.network.vpc.id,
        subnets=ground.network.private,
        clients=ground.cluster.group,
        key=ground.key,
        logs=ground.logs,
        by=ground.by,
    )


def _identity(
    stack: Stack, given: Cell, ground: Ground, ways: Ways, data: Stores, buckets: Mapping[str, Bucket]
) -> None:
    own = prefix(stack)
    Identity(
        stack,
        ground.cluster.name,
        [
            rights.load_balancer(*ways.target_groups),
            rights.external_secrets(stack.region, given.account, own, data.elsewhere, ground.key),
            rights.snapshots(buckets["backups"].arn, ground.key),
            rights.logs(buckets["loki"].arn, ground.key),
            rights.traces(buckets["tempo"].arn, ground.key),
        ],
        ground.by,
    )


def _of_ground(ground: Ground, nodes: Nodes) -> Mapping[str, Text]:
    cluster, network = ground.cluster, ground.network
    return {
        "cluster_name": cluster.name,
        "cluster_endpoint": cluster.endpoint,
        "cluster_ca": cluster.authority,
        "vpc": network.vpc.id,
        "vpc_cidr": network.vpc.cidr_block,
        "balancer_cidrs": pulumi.Output.from_input(",".join(network.public_cidrs)),
        "private_subnets": pulumi.Output.all(*network.private).apply(",".join),
        "private_routes": network.routes,
        "karpenter_queue": nodes.queue,
        "node_profile": cluster.node_profile,
        "security_group": cluster.group,
        "key_arn": ground.key,
    }


def _of_ways(ways: Ways) -> Mapping[str, Text]:
    balancer, federation = ways.balancer, ways.federation
    none = pulumi.Output.from_input("")
    return {
        "metrics_name": federation.dns if federation else none,
        "metrics_zone": federation.zone if federation else none,
        "metrics_target_group": federation.target_group if federation else none,
        "metrics_group": federation.group if federation else none,
        "target_group": balancer.target_group,
        "balancer_name": balancer.dns,
        "balancer_zone": balancer.zone,
        "balancer_arn": balancer.arn,
        "certificate": ways.certificate.arn,
    }


def _of_buckets(buckets: Mapping[str, Bucket]) -> Mapping[str, Text]:
    return {
        "backup_bucket": buckets["backups"].name,
        "loki_bucket": buckets["loki"].name,
        "tempo_bucket": buckets["tempo"].name,
    }
