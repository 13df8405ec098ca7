"""A region's part of an Aurora global database: the writer's cluster in the first region, readers in each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from infra.aws.alarms import watch
from infra.aws.database import (
    BACKUP_DAYS,
    BACKUP_WINDOW,
    MAINTENANCE,
    NAME,
    DatabaseArgs,
    Server,
    checked,
    parameters_of,
)
from infra.aws.database_alarms import of_aurora
from infra.aws.logs import log_group
from infra.pools import plan
from infra.secrets import OWNER, managed
from infra.settings import Stack
from infra.versions import AURORA

# A failover to another region moves the writer, and AWS rewrites who follows whom; upgrades of a global database begin
# in the regions that follow. What this program says of them was true when the cluster was made, and is not put back.
_MOVED: Final = ("globalClusterIdentifier", "replicationSourceIdentifier", "sourceRegion", "engineVersion")
_OWNER_ONLY: Final = ("masterUsername", "databaseName")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a region joins: the id of the global database, its writer's host, and the region it was made in."""

    global_cluster: pulumi.Input[str]
    writer: pulumi.Input[str]
    region: str


class Aurora(Server):
    """`writer`: one host for all regions, which follows the writer wherever it goes. `reader`: this region's own.

    `secret`: name of the owner's login, in every region. `backed_up`: ARN. `global_cluster`: id, for who joins.
    """

    def __init__(
        self,
        stack: Stack,
        args: DatabaseArgs,
        opts: pulumi.ResourceOptions,
        joined: Joined | None = None,
    ) -> None:
        super().__init__("aws:Aurora", stack, args, opts)
        self._joined = joined
        if joined is None:
            whole = self._global()
            self.global_cluster, self.writer = whole.id, whole.endpoint
        else:
            self.global_cluster = pulumi.Output.from_input(joined.global_cluster)
            self.writer = pulumi.Output.from_input(joined.writer)
        cluster = self._cluster()
        self._instances(cluster)
        self.reader, self.backed_up = cluster.reader_endpoint, cluster.arn
        self.secret = self._secret(stack)
        for alarm in of_aurora(self.named("database"), plan(stack.phase).limit, joined=joined is not None):
            watch(self, alarm, args.topic)
        self.register_outputs({"writer": self.writer, "reader": self.reader})

    def _secret(self, stack: Stack) -> pulumi.Output[str]:
        """The first region's stack puts it into all of them."""
        others = [region for region in stack.phase.fleet.regions if region != stack.region]
        if self._args.password is None:
            return pulumi.Output.from_input(managed(stack, "owner"))
        return self.keep_password(self._args.password, others)

    def _global(self) -> aws.rds.GlobalCluster:
        return aws.rds.GlobalCluster(
            "global",
            global_cluster_identifier=self.named("global"),
            engine="aurora-postgresql",
            engine_version=AURORA,
            database_name=NAME,
            storage_encrypted=True,
            deletion_protection=True,
            tags=self.tagged("global"),
            opts=self.child(protect=True, ignore_changes=["engineVersion", "databaseName"]),
        )

    def _parameters(self) -> aws.rds.ClusterParameterGroup:
        return aws.rds.ClusterParameterGroup(
            "database",
            name=self.named("database"),
            family=f"aurora-postgresql{AURORA.partition('.')[0]}",
            parameters=[
                {"name": name, "value": value, "apply_method": "pending-reboot"}
                for name, value in parameters_of(self.stack.phase)
            ],
            tags=self.tagged("database"),
            opts=self.child(),
        )

    def _role(self) -> Mapping[str, Any]:
        """The owner and the database are the first region's; the others get both by replication."""
        if self._joined is not None:
            return {"source_region": self._joined.region}
        password = self._args.password
        assert password is not None
        checked(password)
        return {
            "master_username": OWNER,
            "master_password_wo": password.output(),
            "master_password_wo_version": password.version,
            "database_name": NAME,
        }

    def _cluster(self) -> aws.rds.Cluster:
        logs = [log_group(self, "database", f"/aws/rds/cluster/{self.named('database')}/postgresql", self._args.key)]
        return aws.rds.Cluster(
            "cluster",
            cluster_identifier=self.named("database"),
            global_cluster_identifier=self.global_cluster,
            engine="aurora-postgresql",
            engine_version=AURORA,
            **self._role(),
            storage_encrypted=True,
            kms_key_id=self._args.key,
            db_subnet_group_name=self.subnets.name,
            vpc_security_group_ids=[self.group.id],
            db_cluster_parameter_group_name=self._parameters().name,
            backup_retention_period=BACKUP_DAYS,
            preferred_backup_window=BACKUP_WINDOW,
            preferred_maintenance_window=MAINTENANCE,
            copy_tags_to_snapshot=True,
            deletion_protection=True,
            skip_final_snapshot=False,
            final_snapshot_identifier=self.named("database-final"),
            enabled_cloudwatch_logs_exports=["postgresql"],
            tags=self.tagged("database"),
            opts=self.child(protect=True, depends_on=logs, ignore_changes=[*_MOVED, *_OWNER_ONLY]),
        )

    def _instances(self, cluster: aws.rds.Cluster) -> None:
        """Each in a zone of its own. Where the writer is not, one of the readers would become it."""
        server = self.stack.phase.server
        assert server is not None
        for number in range(instances(self.stack.phase.stores.read_replicas, joined=self._joined is not None)):
            aws.rds.ClusterInstance(
                f"instance-{number}",
                identifier=self.named(f"database-{number}"),
                cluster_identifier=cluster.id,
                instance_class=server.instance_class,
                engine=aws.rds.EngineType.AURORA_POSTGRESQL,
                publicly_accessible=False,
                promotion_tier=number,
                **self.watched(),
                auto_minor_version_upgrade=True,
                copy_tags_to_snapshot=True,
                tags=self.tagged(f"database-{number}"),
                opts=self.child(protect=True),
            )


def instances(readers: int, *, joined: bool) -> int:
    """Of a region's cluster: its readers, and the writer where it is made."""
    return readers if joined else 1 + readers
