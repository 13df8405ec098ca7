"""PostgreSQL of a region by RDS: encrypted, protected, and restorable to any second of its days of backups."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from infra.aws.alarms import watch
from infra.aws.database_alarms import of_primary, of_replica
from infra.aws.logs import log_group
from infra.aws.policies import assumed_by
from infra.component import Component
from infra.errors import InfraError
from infra.phases import Phase
from infra.pools import plan
from infra.secrets import OWNER, managed
from infra.settings import Secret, Stack, key
from infra.versions import POSTGRES

NAME: Final = "trellis"
PORT: Final = 5432
BACKUP_DAYS: Final = 14
STORAGE_GIB: Final = 50
_MOST_STORAGE_GIB: Final = 1_000
MONITORED_S: Final = 60
INSIGHTS_DAYS: Final = 7
"""What AWS keeps for nothing."""
BACKUP_WINDOW: Final = "02:00-03:00"
MAINTENANCE: Final = "sun:03:30-sun:04:30"
OWNER_SECRET: Final = "owner"  # noqa: S105 - a name
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{8,99}")
_PARAMETERS: Final[Mapping[str, str]] = {
    "rds.force_ssl": "1",
    "log_min_duration_statement": "1000",
    # Statements are logged without the values of their parameters: those are what people wrote.
    "log_parameter_max_length": "0",
    "log_lock_waits": "1",
    "log_temp_files": "65536",
    "idle_in_transaction_session_timeout": "60000",
    "track_io_timing": "1",
    # Who changed tables and rights. `log_statement` would write the passwords of new logins; pgaudit hides them.
    "shared_preload_libraries": "pg_stat_statements,pgaudit",
    "pgaudit.log": "ddl,role",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseArgs:
    """`clients`: security group that may connect. `key`: ARN of the key of the data. `topic`: of alarms.

    `password`: of the owner where AWS manages none. RDS refuses to for a server with read replicas, and for members of
    a global database.
    """

    vpc: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    clients: pulumi.Input[str]
    key: pulumi.Input[str]
    topic: pulumi.Input[str]
    password: Secret | None = None


class Server(Component):
    """What both kinds have: subnets, a group that lets the cluster in, and RDS's own role to watch."""

    def __init__(self, kind: str, stack: Stack, args: DatabaseArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__(kind, stack, part="database", opts=opts)
        self._args = args
        self.subnets = aws.rds.SubnetGroup(
            "database",
            name=self.named("database"),
            subnet_ids=list(args.subnets),
            tags=self.tagged("database"),
            opts=self.child(),
        )
        self.group = self._let_in()
        self.watcher = self._monitoring()

    def _let_in(self) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            "database",
            vpc_id=self._args.vpc,
            description="The cluster to PostgreSQL",
            tags=self.tagged("database"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            "database",
            security_group_id=group.id,
            referenced_security_group_id=self._args.clients,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description="From the cluster's nodes",
            tags=self.tagged("database"),
            opts=self.child(),
        )
        return group

    def _monitoring(self) -> aws.iam.Role:
        role = aws.iam.Role(
            "monitoring",
            name=f"{self.named('monitoring')}-{self.stack.region}",
            assume_role_policy=assumed_by("monitoring.rds.amazonaws.com"),
            tags=self.tagged("monitoring"),
            opts=self.child(),
        )
        aws.iam.RolePolicyAttachment(
            "monitoring",
            role=role.name,
            policy_arn="arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole",
            opts=self.child(),
        )
        return role

    def watched(self) -> Mapping[str, Any]:
        """What every machine of it is watched by: its system's figures, and its slowest statements."""
        return {
            "monitoring_interval": MONITORED_S,
            "monitoring_role_arn": self.watcher.arn,
            "performance_insights_enabled": True,
            "performance_insights_kms_key_id": self._args.key,
            "performance_insights_retention_period": INSIGHTS_DAYS,
        }

    def keep_password(self, password: Secret, others: Sequence[str] = ()) -> pulumi.Output[str]:
        """Puts the owner's password into Secrets Manager, of `others` (regions) too. The secret's name."""
        name = managed(self.stack, OWNER_SECRET)
        secret = aws.secretsmanager.Secret(
            OWNER_SECRET,
            name=name,
            description="The login that owns the tables: migrations, and nobody else",
            kms_key_id=self._args.key,
            recovery_window_in_days=BACKUP_DAYS,
            replicas=[{"region": region} for region in others],
            tags=self.tagged(OWNER_SECRET),
            opts=self.child(protect=True),
        )
        version = aws.secretsmanager.SecretVersion(
            OWNER_SECRET,
            secret_id=secret.id,
            secret_string_wo=pulumi.Output.secret(json.dumps({"username": OWNER, "password": password.text})),
            secret_string_wo_version=password.version,
            opts=self.child(),
        )
        return version.secret_id.apply(lambda _: name)


class Postgres(Server):
    """RDS, multi-AZ, with the phase's read replicas: `writer` and `reader` hosts (several: comma-separated),
    `secret` of the owner's login (ARN where RDS has made it, `managed`; else its name), `backed_up` (ARN)."""

    def __init__(self, stack: Stack, args: DatabaseArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Postgres", stack, args, opts)
        phase = stack.phase
        parameters = aws.rds.ParameterGroup(
            "database",
            name=self.named("database"),
            family=f"postgres{POSTGRES}",
            parameters=[
                {"name": name, "value": value, "apply_method": "pending-reboot"} for name, value in parameters_of(phase)
            ],
            tags=self.tagged("database"),
            opts=self.child(),
        )
        primary = self._primary(parameters)
        replicas = [self._replica(number, primary, parameters) for number in range(phase.stores.read_replicas)]
        self.writer, self.backed_up = primary.address, primary.arn
        # libpq and PgBouncer take several hosts, and spread readers over them.
        hosts = [replica.address for replica in replicas] or [primary.address]
        self.reader = pulumi.Output.all(*hosts).apply(",".join)
        self.managed = args.password is None
        self.secret = self._secret(primary)
        self.register_outputs({"writer": self.writer, "reader": self.reader})

    def _secret(self, primary: aws.rds.Instance) -> pulumi.Output[str]:
        if self._args.password is not None:
            return self.keep_password(self._args.password)
        return primary.master_user_secrets.apply(lambda secrets: str(secrets[0].secret_arn) if secrets else "")

    def _primary(self, parameters: aws.rds.ParameterGroup) -> aws.rds.Instance:
        name, server = self.named("primary"), self.stack.phase.server
        assert server is not None
        logs = [log_group(self, "primary", f"/aws/rds/instance/{name}/postgresql", self._args.key)]
        primary = aws.rds.Instance(
            "primary",
            identifier=name,
            engine="postgres",
            engine_version=POSTGRES,
            instance_class=server.instance_class,
            multi_az=True,
            db_name=NAME,
            username=OWNER,
            **owner(self._args),
            allocated_storage=STORAGE_GIB,
            max_allocated_storage=_MOST_STORAGE_GIB,
            storage_type="gp3",
            storage_encrypted=True,
            kms_key_id=self._args.key,
            db_subnet_group_name=self.subnets.name,
            vpc_security_group_ids=[self.group.id],
            publicly_accessible=False,
            parameter_group_name=parameters.name,
            backup_retention_period=BACKUP_DAYS,
            backup_window=BACKUP_WINDOW,
            copy_tags_to_snapshot=True,
            delete_automated_backups=False,
            maintenance_window=MAINTENANCE,
            auto_minor_version_upgrade=True,
            allow_major_version_upgrade=False,
            apply_immediately=False,
            deletion_protection=True,
            skip_final_snapshot=False,
            final_snapshot_identifier=self.named("primary-final"),
            **self.watched(),
            enabled_cloudwatch_logs_exports=["postgresql"],
            tags=self.tagged("primary"),
            opts=self.child(protect=True, depends_on=logs),
        )
        for alarm in of_primary(name, plan(self.stack.phase).limit, STORAGE_GIB):
            watch(self, alarm, self._args.topic)
        return primary

    def _replica(self, number: int, primary: aws.rds.Instance, parameters: aws.rds.ParameterGroup) -> aws.rds.Instance:
        name, server = f"replica-{number}", self.stack.phase.server
        assert server is not None
        full = self.named(name)
        logs = [log_group(self, name, f"/aws/rds/instance/{full}/postgresql", self._args.key)]
        replica = aws.rds.Instance(
            name,
            identifier=full,
            replicate_source_db=primary.identifier,
            instance_class=server.instance_class,
            storage_encrypted=True,
            kms_key_id=self._args.key,
            vpc_security_group_ids=[self.group.id],
            publicly_accessible=False,
            parameter_group_name=parameters.name,
            # A replica that was promoted needs backups at once.
            backup_retention_period=BACKUP_DAYS,
            maintenance_window=MAINTENANCE,
            auto_minor_version_upgrade=True,
            deletion_protection=True,
            # RDS takes no last snapshot of a replica: its rows are the primary's.
            skip_final_snapshot=True,
            **self.watched(),
            copy_tags_to_snapshot=True,
            enabled_cloudwatch_logs_exports=["postgresql"],
            tags=self.tagged(name),
            opts=self.child(protect=True, depends_on=logs),
        )
        for alarm in of_replica(full, name):
            watch(self, alarm, self._args.topic)
        return replica


def owner(args: DatabaseArgs) -> Mapping[str, Any]:
    """How the owner's password comes to RDS, so that no state has it in plain text.

    RDS makes and rotates it where it can. Otherwise it is written and never read back; Pulumi keeps it encrypted.

    Raises InfraError for a password that RDS or an address would refuse, without repeating it.
    """
    if args.password is None:
        return {"manage_master_user_password": True, "master_user_secret_kms_key_id": args.key}
    checked(args.password)
    return {"password_wo": args.password.output(), "password_wo_version": args.password.version}


def checked(password: Secret) -> None:
    """Raises InfraError, without repeating it, for one that RDS refuses or that means something else in an address."""
    if not _PASSWORD.fullmatch(password.text):
        raise InfraError(
            f"{key('database_password')} has to be 8 to 99 letters, digits, '_' or '-': take `openssl rand -hex 24`."
        )


def parameters_of(phase: Phase) -> Sequence[tuple[str, str]]:
    """By name. `max_connections` is as infra/pools.py counted with it, not as RDS would guess."""
    return sorted({**_PARAMETERS, "max_connections": str(plan(phase).limit)}.items())
