"""The data of a region: its database, its cache, its secrets, the registry of its images, and who is told of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi

from infra.aws.alarms import Topic
from infra.aws.aurora import Aurora, Joined
from infra.aws.backup import Backup
from infra.aws.budget import Budget
from infra.aws.cache import CacheArgs, ValkeyCache
from infra.aws.database import DatabaseArgs, Postgres
from infra.aws.registry import Registry
from infra.aws.secrets import Secrets, SecretsArgs
from infra.aws.storage import Bucket
from infra.aws.trail import Trail
from infra.layout import before
from infra.outputs import Text, read
from infra.phases import Relational
from infra.settings import Cell, Stack

# The writer may be in any region, and a stack does not know the others' networks: settings hold them to these.
_PRIVATE: Final = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the stores are: `subnets` private ones, `clients` the security group of who connects, `key` of the data,
    `logs` of what AWS records; `by` names the provider."""

    vpc: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    clients: pulumi.Input[str]
    key: pulumi.Input[str]
    logs: Bucket
    by: pulumi.ResourceOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What a cell tells others of its data."""

    database: Postgres | Aurora
    cache: ValkeyCache
    cache_secret: pulumi.Output[str]
    registry: pulumi.Output[str]
    networks: str

    @property
    def elsewhere(self) -> Sequence[pulumi.Output[str]]:
        """ARNs of secrets that are not named after the stack: RDS names those that it makes."""
        database = self.database
        return [database.secret] if isinstance(database, Postgres) and database.managed else []

    def outputs(self) -> Mapping[str, Text]:
        """Of the cell, by name; `global_cluster` is empty where the database is of one region."""
        database = self.database
        whole = database.global_cluster if isinstance(database, Aurora) else pulumi.Output.from_input("")
        return {
            "database_writer": database.writer,
            "database_reader": database.reader,
            "database_secret": database.secret,
            "database_group": database.group.id,
            "global_cluster": whole,
            "store_networks": pulumi.Output.from_input(self.networks),
            "cache_endpoint": self.cache.endpoint,
            "cache_secret": self.cache_secret,
            "registry": self.registry,
        }


def stores(stack: Stack, given: Cell, site: Site) -> Stores:
    """Made once for all of a phase's regions, by the first one's stack: the global database, secrets that are the same
    everywhere, the trail, the budget, the copies of images to the others."""
    first, by = not before(stack.name), site.by
    others = [region for region in stack.phase.fleet.regions if region != stack.region] if first else []
    topic = Topic(stack, given.account, given.alarm_email, site.key, by).arn
    secrets = Secrets(stack, SecretsArgs(key=site.key, first=first, others=others), by)
    database = _database(stack, given, site, topic)
    if first:
        Backup(stack, [database.backed_up], site.key, by)
        Trail(stack, site.logs.name, site.key, by)
        Budget(stack, given.account, given.alarm_email, by)
    cache = CacheArgs(
        vpc=site.vpc,
        subnets=site.subnets,
        clients=site.clients,
        key=site.key,
        user=secrets.cache_user,
        topic=topic,
    )
    return Stores(
        database=database,
        cache=ValkeyCache(stack, cache, by),
        cache_secret=secrets.cache,
        registry=Registry(stack, given.account, site.key, others, by).url,
        networks=given.cidr if len(stack.phase.fleet.regions) == 1 else _PRIVATE,
    )


def _database(stack: Stack, given: Cell, site: Site, topic: pulumi.Input[str]) -> Postgres | Aurora:
    """Of its own, or a part of the global one, which the first region's stack makes."""
    args = DatabaseArgs(
        vpc=site.vpc,
        subnets=site.subnets,
        clients=site.clients,
        key=site.key,
        topic=topic,
        password=given.database_password,
    )
    if stack.phase.stores.relational is not Relational.AURORA_GLOBAL:
        return Postgres(stack, args, site.by)
    return Aurora(stack, args, site.by, _joined(stack))


def _joined(stack: Stack) -> Joined | None:
    """What the first region's stack says of the global database; None there."""
    infra = before(stack.name)
    if not infra:
        return None
    there = read(infra[0])
    return Joined(global_cluster=there.global_cluster, writer=there.database_writer, region=infra[0].region)
