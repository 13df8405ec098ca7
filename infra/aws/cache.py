"""Valkey of a region: encrypted on the way and at rest, with a user of its own, and a replica in another zone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from infra.aws.alarms import Alarm, watch
from infra.aws.logs import log_group
from infra.component import Component
from infra.phases import Phase
from infra.settings import Stack
from infra.versions import VALKEY

_PORT: Final = 6379
_BACKUP_DAYS: Final = 7
_BACKUP_WINDOW: Final = "01:00-02:00"
_MAINTENANCE: Final = "sun:04:30-sun:05:30"
_PARAMETERS: Final[Mapping[str, str]] = {
    # Write marks and the limiter's keys must not go to make room for cached answers, which all have an expiry.
    "maxmemory-policy": "volatile-lru",
}
# For what is written during a backup or a copy to a replica; AWS names these for its smallest nodes.
_RESERVED_PERCENT: Final[Mapping[str, int]] = {"micro": 50, "small": 30}
_RESERVED_ELSE: Final = 25
_FULL_PERCENT: Final = 80
_BUSY_PERCENT: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheArgs:
    """`clients`: security group that may connect. `user`: id of the app's; nobody else may. `topic`: of alarms."""

    vpc: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    clients: pulumi.Input[str]
    key: pulumi.Input[str]
    user: pulumi.Input[str]
    topic: pulumi.Input[str]


class ValkeyCache(Component):
    """`endpoint`: the host that clients are told, of a cluster its configuration's, of one shard its primary's."""

    def __init__(self, stack: Stack, args: CacheArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Cache", stack, opts=opts)
        self._args = args
        users = aws.elasticache.UserGroup(
            "cache",
            engine="valkey",
            user_group_id=self.named("cache"),
            user_ids=[args.user],
            tags=self.tagged("cache"),
            opts=self.child(),
        )
        group = self._group(users)
        clustered = stack.phase.stores.cache_shards > 1
        self.endpoint = group.configuration_endpoint_address if clustered else group.primary_endpoint_address
        self._alarms()
        self.register_outputs({"endpoint": self.endpoint})

    def _group(self, users: aws.elasticache.UserGroup) -> aws.elasticache.ReplicationGroup:
        server = self.stack.phase.cache
        assert server is not None
        return aws.elasticache.ReplicationGroup(
            "cache",
            replication_group_id=self.named("cache"),
            description="Caches, limits and conversations of a day",
            engine="valkey",
            engine_version=VALKEY,
            node_type=server.node_class,
            port=_PORT,
            **_shape(self.stack.phase, server.replicas),
            automatic_failover_enabled=True,
            multi_az_enabled=True,
            parameter_group_name=self._parameters().name,
            subnet_group_name=self._subnets().name,
            security_group_ids=[self._let_in().id],
            at_rest_encryption_enabled=True,
            kms_key_id=self._args.key,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            user_group_ids=[users.user_group_id],
            snapshot_retention_limit=_BACKUP_DAYS,
            snapshot_window=_BACKUP_WINDOW,
            final_snapshot_identifier=self.named("cache-final"),
            maintenance_window=_MAINTENANCE,
            auto_minor_version_upgrade=True,
            apply_immediately=False,
            log_delivery_configurations=[self._slow_log()],
            tags=self.tagged("cache"),
            opts=self.child(protect=True),
        )

    def _slow_log(self) -> aws.elasticache.ReplicationGroupLogDeliveryConfigurationArgsDict:
        path = f"/aws/elasticache/{self.named('cache')}/slow"
        group = log_group(self, "slow", path, self._args.key)
        return {
            "destination": group.name,
            "destination_type": "cloudwatch-logs",
            "log_format": "json",
            "log_type": "slow-log",
        }

    def _parameters(self) -> aws.elasticache.ParameterGroup:
        values = parameters_of(self.stack.phase)
        return aws.elasticache.ParameterGroup(
            "cache",
            name=self.named("cache"),
            family=f"valkey{VALKEY.partition('.')[0]}",
            parameters=[{"name": name, "value": value} for name, value in sorted(values.items())],
            tags=self.tagged("cache"),
            opts=self.child(),
        )

    def _subnets(self) -> aws.elasticache.SubnetGroup:
        return aws.elasticache.SubnetGroup(
            "cache",
            name=self.named("cache"),
            subnet_ids=list(self._args.subnets),
            tags=self.tagged("cache"),
            opts=self.child(),
        )

    def _let_in(self) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            "cache",
            vpc_id=self._args.vpc,
            description="The cluster to Valkey",
            tags=self.tagged("cache"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            "cache",
            security_group_id=group.id,
            referenced_security_group_id=self._args.clients,
            ip_protocol="tcp",
            from_port=_PORT,
            to_port=_PORT,
            description="From the cluster's nodes",
            tags=self.tagged("cache"),
            opts=self.child(),
        )
        return group

    def _alarms(self) -> None:
        for node in nodes(self.stack.phase, self.named("cache")):
            for alarm in _of_node(node, node.removeprefix(self.named(""))):
                watch(self, alarm, self._args.topic)


def parameters_of(phase: Phase) -> Mapping[str, str]:
    """Of the parameter group, by name."""
    assert phase.cache is not None
    reserved = _RESERVED_PERCENT.get(phase.cache.node_class.rpartition(".")[2], _RESERVED_ELSE)
    clustered = {"cluster-enabled": "yes"} if phase.stores.cache_shards > 1 else {}
    return {**_PARAMETERS, "reserved-memory-percent": str(reserved), **clustered}


def _shape(phase: Phase, replicas: int) -> Mapping[str, Any]:
    """Of a cluster: shards, each with replicas. Of one shard without cluster mode: all its nodes."""
    if phase.stores.cache_shards > 1:
        shards = phase.stores.cache_shards
        return {"cluster_mode": "enabled", "num_node_groups": shards, "replicas_per_node_group": replicas}
    return {"num_cache_clusters": 1 + replicas}


def nodes(phase: Phase, group: str) -> Sequence[str]:
    """Names that AWS gives to the nodes of a group."""
    server, shards = phase.cache, phase.stores.cache_shards
    assert server is not None
    each = range(1, 2 + server.replicas)
    if shards > 1:
        return [f"{group}-{shard:04}-{node:03}" for shard in range(1, 1 + shards) for node in each]
    return [f"{group}-{node:03}" for node in each]


def _of_node(node: str, name: str) -> Sequence[Alarm]:
    where = {"CacheClusterId": node}
    full = Alarm(
        name=f"{name}-full",
        namespace="AWS/ElastiCache",
        metric="DatabaseMemoryUsagePercentage",
        dimensions=where,
        threshold=_FULL_PERCENT,
        minutes=15,
        why="The cache is nearly full: soon it drops entries early. Take a larger node class in infra/phases.py.",
    )
    busy = Alarm(
        name=f"{name}-busy",
        namespace="AWS/ElastiCache",
        metric="EngineCPUUtilization",
        dimensions=where,
        threshold=_BUSY_PERCENT,
        minutes=10,
        why="The node's one thread is nearly always busy: requests wait for it. More shards, or a larger class.",
    )
    return full, busy
