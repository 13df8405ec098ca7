"""Costs from a graph: each kind of resource, and the machines that pods need."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cost import Line, Part, monthly, total
from infra.costs.nodes import Room, machines
from infra.costs.pods import amount, daemons, workloads
from infra.costs.resources import unpriced
from infra.errors import InfraError
from infra.prices import HOURS, load_prices
from infra.recording import Graph, Resource
from tests.support import infra
from tests.support.examples import examples

INFRA, APPS = "small-eu-central-1-infra", "small-eu-central-1-apps"


def resource(kind: str, name: str = "one", **inputs: Any) -> Resource:
    return infra.resource(name, kind, inputs=inputs)


def workload(
    name: str, cpu: str, memory: str, *, replicas: int = 1, kind: str = "Deployment", gpus: int = 0, **pod: Any
) -> Resource:
    limits = {"nvidia.com/gpu": gpus} if gpus else {}
    container = {"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": limits}}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [container], **pod}}}
    meta = {"name": name, "namespace": "trellis"}
    return resource(f"kubernetes:apps/v1:{kind}", name, metadata=meta, spec=spec)


def scaler(name: str, least: int, most: int) -> Resource:
    spec = {"minReplicas": least, "maxReplicas": most, "scaleTargetRef": {"kind": "Deployment", "name": name}}
    kind = "kubernetes:autoscaling/v2:HorizontalPodAutoscaler"
    return resource(kind, name, metadata={"name": name, "namespace": "trellis"}, spec=spec)


def pool(*capacity: str) -> Resource:
    needs = [{"key": "karpenter.sh/capacity-type", "operator": "In", "values": list(capacity)}]
    return resource("kubernetes:karpenter.sh/v1:NodePool", spec={"template": {"spec": {"requirements": needs}}})


def bill(*resources: Resource, stack: str = INFRA) -> list[Line]:
    return list(monthly(Graph(stack, resources, {})))


def of(part: Part, lines: list[Line]) -> float:
    return sum(line.usd_month for line in lines if line.part == part)


def usd(item: str) -> float:
    return load_prices().of(item, "eu-central-1").usd


def test_a_database_in_two_zones_costs_two_machines_and_two_disks() -> None:
    one: dict[str, Any] = {"instanceClass": "db.t4g.medium", "allocatedStorage": 50}
    single = of(Part.DATABASE, bill(resource("aws:rds/instance:Instance", **one)))
    double = of(Part.DATABASE, bill(resource("aws:rds/instance:Instance", multiAz=True, **one)))
    assert single == pytest.approx(usd("rds/db.t4g.medium") * HOURS + 50 * usd("rds-disk"))
    assert double == pytest.approx(2 * single)


def test_a_replica_has_a_disk_as_large_as_its_source() -> None:
    primary = resource("aws:rds/instance:Instance", "a", instanceClass="db.r6g.large", allocatedStorage=50)
    replica = resource("aws:rds/instance:Instance", "b", instanceClass="db.r6g.large", replicateSourceDb="a")
    assert of(Part.DATABASE, bill(primary, replica)) == pytest.approx(2 * of(Part.DATABASE, bill(primary)))


@pytest.mark.parametrize(
    ("shape", "nodes"),
    [({"numNodeGroups": 3, "replicasPerNodeGroup": 1}, 6), ({"numCacheClusters": 2}, 2), ({"numNodeGroups": 1}, 1)],
)
def test_a_cache_costs_each_shard_with_its_replicas(shape: Mapping[str, Any], nodes: int) -> None:
    lines = bill(resource("aws:elasticache/replicationGroup:ReplicationGroup", nodeType="cache.t4g.micro", **shape))
    assert of(Part.CACHE, lines) == pytest.approx(nodes * usd("cache/cache.t4g.micro") * HOURS)


def test_a_group_of_nodes_costs_its_machines_and_the_disks_of_its_template() -> None:
    disks = [{"ebs": {"volumeSize": 40}}]
    template = resource("aws:ec2/launchTemplate:LaunchTemplate", "small", blockDeviceMappings=disks)
    shape: dict[str, Any] = {
        "instanceTypes": ["t4g.medium"],
        "scalingConfig": {"desiredSize": 2},
        "launchTemplate": {"id": "small-id"},
    }
    lines = bill(template, resource("aws:eks/nodeGroup:NodeGroup", **shape))
    assert of(Part.COMPUTE, lines) == pytest.approx(2 * (usd("instance/t4g.medium") * HOURS + 40 * usd("disk")))


def test_a_template_of_secrets_costs_each_secret_in_it() -> None:
    body = '{"Resources": {"A": {"Type": "AWS::SecretsManager::Secret"}, "B": {"Type": "AWS::SecretsManager::Secret"}}}'
    lines = bill(resource("aws:cloudformation/stack:Stack", templateBody=body))
    assert of(Part.OTHER, lines) == pytest.approx(2 * usd("secret"))


def test_an_estimated_price_marks_its_line() -> None:
    lines = {line.what: line for line in bill(resource("aws:ec2/eip:Eip"), resource("aws:ec2/natGateway:NatGateway"))}
    assert not lines["address one"].estimate
    assert lines["nat one"].estimate


def test_a_type_that_nobody_priced_is_named() -> None:
    graph = Graph(INFRA, [resource("aws:ec2/vpc:Vpc"), resource("aws:quantum/computer:Computer")], {})
    assert unpriced(graph) == ["aws:quantum/computer:Computer"]


def test_a_size_without_a_price_is_refused() -> None:
    with pytest.raises(InfraError, match=r"no price of 'rds/db\.t9\.huge' in eu-central-1"):
        bill(resource("aws:rds/instance:Instance", instanceClass="db.t9.huge", allocatedStorage=1))


def test_the_workloads_of_ones_own_cluster_cost_nothing_here() -> None:
    assert bill(workload("api", "500m", "640Mi"), stack="cluster-apps") == []


def test_lines_are_in_order_of_their_cost_and_none_is_empty() -> None:
    lines = bill(resource("aws:ec2/eip:Eip"), resource("aws:eks/cluster:Cluster"), resource("aws:kms/key:Key"))
    assert [line.usd_month for line in lines] == sorted((line.usd_month for line in lines), reverse=True)
    assert all(line.usd_month > 0 for line in lines)
    assert total(lines) == pytest.approx(sum(line.usd_month for line in lines))


def test_machines_follow_from_what_the_pods_request() -> None:
    few = of(Part.COMPUTE, bill(workload("api", "500m", "640Mi", replicas=2), stack=APPS))
    many = of(Part.COMPUTE, bill(workload("api", "500m", "640Mi", replicas=7), stack=APPS))
    assert few == pytest.approx(usd("instance/t4g.medium") * HOURS)
    assert many == pytest.approx(3 * few)


def test_a_scaled_workload_is_reckoned_between_its_least_and_most() -> None:
    graph = Graph(APPS, [workload("api", "500m", "640Mi", replicas=9), scaler("api", 3, 11)], {})
    (pods,) = workloads(graph)
    assert (pods.least, pods.most, pods.expected(0.25)) == (3, 11, 5)


def test_pods_that_must_lie_in_zones_of_their_own_need_a_machine_each() -> None:
    spread = [{"topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}]
    apart = workload("api", "10m", "10Mi", replicas=5, topologySpreadConstraints=spread)
    near = workload("api", "10m", "10Mi", replicas=5)
    assert of(Part.COMPUTE, bill(apart, stack=APPS)) == pytest.approx(3 * of(Part.COMPUTE, bill(near, stack=APPS)))


def test_machines_that_may_be_spot_cost_less() -> None:
    pods = workload("api", "500m", "640Mi")
    on_demand = of(Part.COMPUTE, bill(pods, pool("on-demand"), stack=APPS))
    mixed = of(Part.COMPUTE, bill(pods, pool("on-demand", "spot"), stack=APPS))
    share = load_prices().assumptions.spot_share
    wanted = (1 - share) * usd("instance/t4g.medium") + share * usd("spot/t4g.medium")
    assert on_demand == pytest.approx(usd("instance/t4g.medium") * HOURS)
    assert mixed == pytest.approx(wanted * HOURS)


def test_a_pod_that_fits_no_machine_is_refused_by_name() -> None:
    with pytest.raises(InfraError, match=r"The pod 'giant' \(9000m, 640 MiB\) fits no machine of the phase 'small'"):
        bill(workload("giant", "9", "640Mi"), stack=APPS)


def test_models_cost_the_hours_of_their_day() -> None:
    lines = bill(workload("vllm", "3", "12Gi", gpus=1), stack="medium-eu-central-1-apps")
    models = 14 * (1 + 2 * load_prices().assumptions.scale) / 24
    assert of(Part.GPU, lines) == pytest.approx(models * usd("instance/g6.xlarge") * HOURS)


def test_a_pod_with_a_gpu_in_a_phase_without_models_is_refused() -> None:
    with pytest.raises(InfraError, match="'small' has no models"):
        bill(workload("vllm", "3", "12Gi", gpus=1), stack=APPS)


def test_disks_count_for_the_part_that_they_belong_to() -> None:
    claim = {"spec": {"resources": {"requests": {"storage": "50Gi"}}}}
    store = workload("qdrant", "100m", "100Mi", kind="StatefulSet", replicas=3)
    spec = {**store.inputs["spec"], "volumeClaimTemplates": [claim]}
    meta = {"name": "qdrant", "namespace": "trellis-data"}
    lines = bill(resource(store.type, "qdrant", metadata=meta, spec=spec), stack=APPS)
    assert of(Part.VECTORS, lines) == pytest.approx(150 * usd("disk"))


def test_containers_that_start_before_count_as_the_scheduler_counts_them() -> None:
    def init(memory: str, **more: str) -> dict[str, Any]:
        return {"name": "init", "resources": {"requests": {"memory": memory}}, **more}

    first = [init("700Mi"), init("50Mi", restartPolicy="Always")]
    (pods,) = workloads(Graph(APPS, [workload("api", "500m", "640Mi", initContainers=first)], {}))
    assert pods.memory == pytest.approx(700)


def test_daemons_of_gpu_nodes_are_on_no_other_node() -> None:
    found = [
        workload("node", "10m", "32Mi", kind="DaemonSet"),
        workload("dcgm", "50m", "128Mi", kind="DaemonSet", nodeSelector={"trellis.dev/pool": "gpu"}),
    ]
    assert [pods.name for pods in daemons(Graph(APPS, found, {}))] == ["node"]


@pytest.mark.parametrize(
    ("text", "value"), [("500m", 0.5), ("2", 2), (1.5, 1.5), ("640Mi", 640 * 2**20), ("1Gi", 2**30), ("2k", 2000)]
)
def test_quantities_are_read_as_kubernetes_reads_them(text: object, value: float) -> None:
    assert amount(text) == pytest.approx(value)


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(InfraError, match="'much' is no Kubernetes quantity"):
        amount("much")


PODS = st.lists(st.tuples(st.floats(1, 1900), st.floats(1, 7000)), max_size=25)


@settings(max_examples=examples(200))
@given(PODS)
def test_packing_leaves_no_machine_over_full_and_wastes_less_than_half(pods: list[tuple[float, float]]) -> None:
    room = Room(1900, 7000, 30)
    many = machines(pods, room)
    assert many is not None
    need = max(sum(cpu for cpu, _ in pods) / room.cpu, sum(memory for _, memory in pods) / room.memory)
    # Two machines that are each less than half full in both would have been one.
    assert need <= many <= 2 * sum(cpu / room.cpu + memory / room.memory for cpu, memory in pods) + 1


def test_a_pod_larger_than_an_empty_machine_has_no_number_of_machines() -> None:
    assert machines([(2000, 1)], Room(1900, 7000, 30)) is None
    assert machines([(1, 1)] * 31, Room(1900, 7000, 30)) == 2
