"""PostgreSQL as a phase declares it: what is never lost by mistake, and what a failover moves."""

from typing import Any

import pulumi
import pytest

from infra.aws.aurora import Aurora, Joined
from infra.aws.cache import CacheArgs, ValkeyCache
from infra.aws.cache import nodes as cache_nodes
from infra.aws.cache import parameters_of as cache_parameters
from infra.aws.database import BACKUP_DAYS, DatabaseArgs, Postgres, checked, parameters_of
from infra.errors import InfraError
from infra.layout import Layer, StackName
from infra.phases import PHASES, PhaseName
from infra.pools import plan
from infra.recording import Graph
from infra.settings import Account, Secret, Stack, secrets_of
from tests.support.infra import recorded

GIVEN = Account(
    account="222222222222", alarm_email="ops@trellis.test", domain="a.trellis.test", zone="Z0123456789ABCDEF"
)
PASSWORD = "correct-horse-battery-staple"
INSTANCE, CLUSTER = "aws:rds/instance:Instance", "aws:rds/cluster:Cluster"
WITH_SERVER = [phase for phase in PHASES.values() if phase.server is not None]


def stack(name: str) -> Stack:
    parsed = StackName.parse(name)
    assert parsed.phase is not None
    return Stack(parsed, PHASES[parsed.phase], GIVEN)


def args(password: Secret | None = None) -> DatabaseArgs:
    return DatabaseArgs(
        vpc="vpc", subnets=["a", "b"], clients="sg", key="arn:key", topic="arn:topic", password=password
    )


def single(name: str, password: Secret | None = None) -> Graph:
    return recorded(lambda: Postgres(stack(name), args(password), pulumi.ResourceOptions()) and None)


def aurora(name: str, joined: Joined | None) -> Graph:
    password = None if joined else Secret(PASSWORD)
    return recorded(lambda: Aurora(stack(name), args(password), pulumi.ResourceOptions(), joined) and None)


@pytest.fixture(scope="module")
def writers() -> Graph:
    return aurora("multi-region-us-east-1-infra", None)


@pytest.fixture(scope="module")
def joined() -> Graph:
    there = Joined(global_cluster="global", writer="writer.test", region="us-east-1")
    return aurora("multi-region-eu-central-1-infra", there)


@pytest.fixture(scope="module")
def medium() -> Graph:
    return single("medium-eu-central-1-infra", Secret(PASSWORD))


def stores(graph: Graph) -> list[Any]:
    return [*graph.of(INSTANCE, CLUSTER)]


def test_a_database_is_encrypted_protected_and_restorable(medium: Graph, writers: Graph, joined: Graph) -> None:
    for store in [*stores(medium), *stores(writers), *stores(joined)]:
        assert store.protect
        assert store.inputs["deletionProtection"]
        assert store.inputs["storageEncrypted"]
        assert store.inputs["kmsKeyId"] == "arn:key"
        assert store.inputs["backupRetentionPeriod"] == BACKUP_DAYS >= 7
        # RDS takes none of a replica, and refuses to delete one that asks for it.
        assert store.inputs["skipFinalSnapshot"] == ("replicateSourceDb" in store.inputs)


def test_rds_keeps_the_password_where_it_can_and_no_state_has_it_elsewhere(medium: Graph, writers: Graph) -> None:
    (managed,) = single("small-eu-central-1-infra").of(INSTANCE)
    assert managed.inputs["manageMasterUserPassword"]
    for graph, kind, field in ((medium, INSTANCE, "passwordWo"), (writers, CLUSTER, "masterPasswordWo")):
        told = next(one for one in graph.of(kind) if field in one.inputs)
        assert field in told.secrets
        assert "manageMasterUserPassword" not in told.inputs
        assert PASSWORD not in repr(graph)


def test_the_password_reaches_secrets_manager_of_every_region(writers: Graph, joined: Graph) -> None:
    (secret,) = writers.of("aws:secretsmanager/secret:Secret")
    assert {one["region"] for one in secret.inputs["replicas"]} == {"eu-central-1", "ap-northeast-1"}
    (version,) = writers.of("aws:secretsmanager/secretVersion:SecretVersion")
    assert "secretStringWo" in version.secrets
    assert not joined.of("aws:secretsmanager/secret:Secret")


def test_another_password_is_another_version() -> None:
    assert Secret(PASSWORD).version == Secret(PASSWORD).version != Secret("another-one-of-twenty").version


@pytest.mark.parametrize(
    "text", ["short", "has space in it", "with/slash-in-it", 'with"quote-in-it', "with@sign-in-it"]
)
def test_a_password_that_rds_or_an_address_would_refuse_is_one_sentence_without_it(text: str) -> None:
    with pytest.raises(InfraError, match="trellis:databasePassword") as caught:
        checked(Secret(text))
    assert text not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_a_writer_that_rds_cannot_keep_the_password_of_is_told_one() -> None:
    asked = {
        str(stack)
        for phase in PHASES.values()
        for stack in (StackName(phase.name, region, Layer.INFRA) for region in phase.fleet.regions)
        if phase.name is not PhaseName.POC and secrets_of(stack)
    }
    assert asked == {"medium-eu-central-1-infra", "multi-region-us-east-1-infra"}


def test_a_failover_is_no_drift(writers: Graph, joined: Graph) -> None:
    moved = {"globalClusterIdentifier", "replicationSourceIdentifier", "engineVersion"}
    for graph in (writers, joined):
        (cluster,) = graph.of(CLUSTER)
        assert moved <= set(cluster.ignore_changes)


def test_one_region_has_the_writer_and_the_others_follow_it(writers: Graph, joined: Graph) -> None:
    (first,), (other,) = writers.of(CLUSTER), joined.of(CLUSTER)
    assert first.inputs["masterUsername"] == "trellis_owner"
    assert {"masterUsername", "masterPasswordWo", "databaseName"}.isdisjoint(other.inputs)
    assert other.inputs["sourceRegion"] == "us-east-1"
    assert len(writers.of("aws:rds/globalCluster:GlobalCluster")) == 1
    assert not joined.of("aws:rds/globalCluster:GlobalCluster")
    for graph, many in ((writers, 3), (joined, 2)):
        assert len(graph.of("aws:rds/clusterInstance:ClusterInstance")) == many


@pytest.mark.parametrize("phase", WITH_SERVER, ids=lambda phase: phase.name)
def test_a_server_lets_in_as_many_connections_as_were_planned_with(phase: Any) -> None:
    assert dict(parameters_of(phase))["max_connections"] == str(plan(phase).limit)


def test_what_people_wrote_is_not_in_the_databases_log() -> None:
    for phase in WITH_SERVER:
        found = dict(parameters_of(phase))
        assert found["log_parameter_max_length"] == "0"
        assert found["rds.force_ssl"] == "1"
        assert "log_statement" not in found


@pytest.mark.parametrize("name", ["small-eu-central-1-infra", "medium-eu-central-1-infra"])
def test_the_cache_is_encrypted_has_a_login_and_an_alarm_for_each_of_its_nodes(name: str) -> None:
    given = stack(name)
    cache = CacheArgs(vpc="vpc", subnets=["a"], clients="sg", key="arn:key", user="user", topic="arn:topic")
    graph = recorded(lambda: ValkeyCache(given, cache, pulumi.ResourceOptions()) and None)
    (group,) = graph.of("aws:elasticache/replicationGroup:ReplicationGroup")
    assert group.protect
    assert group.inputs["transitEncryptionMode"] == "required"
    assert group.inputs["atRestEncryptionEnabled"]
    assert group.inputs["multiAzEnabled"]
    assert group.inputs["userGroupIds"]
    assert group.inputs["snapshotRetentionLimit"] >= 7
    (parameters,) = graph.of("aws:elasticache/parameterGroup:ParameterGroup")
    assert {"name": "maxmemory-policy", "value": "volatile-lru"} in parameters.inputs["parameters"]
    assert group.inputs.get("numNodeGroups", 1) == given.phase.stores.cache_shards
    watched = {one.inputs["dimensions"]["CacheClusterId"] for one in graph.of("aws:cloudwatch/metricAlarm:MetricAlarm")}
    assert watched == set(cache_nodes(given.phase, group.inputs["replicationGroupId"]))


def test_the_smallest_nodes_keep_half_of_their_memory_for_backups() -> None:
    reserved = {phase.name: cache_parameters(phase)["reserved-memory-percent"] for phase in WITH_SERVER}
    assert reserved == {PhaseName.SMALL: "50", PhaseName.MEDIUM: "25", PhaseName.MULTI_REGION: "25"}


def test_nodes_of_a_cache_are_named_as_aws_names_them() -> None:
    assert cache_nodes(PHASES[PhaseName.SMALL], "c") == ["c-001", "c-002"]
    assert cache_nodes(PHASES[PhaseName.MEDIUM], "c") == [
        f"c-000{shard}-00{node}" for shard in (1, 2, 3) for node in (1, 2)
    ]
