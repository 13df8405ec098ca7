"""Users of every region reach one that is ready; a region that is emptied by hand gets nobody."""

from collections.abc import Collection

import pulumi
import pulumi_aws as aws
import pytest

from infra.aws.edge import Edge, EdgeArgs
from infra.aws.edge_metrics import Metrics, Watched
from infra.aws.edge_peering import Peering, Side
from infra.aws.edge_region import Region
from infra.errors import InfraError
from infra.layout import StackName, stacks_of
from infra.phases import PHASES, PhaseName
from infra.programs.edge import checked
from infra.recording import Graph
from infra.scrapes import metrics_host
from infra.settings import Account, Stack
from tests.support.infra import recorded

PHASE = PHASES[PhaseName.MULTI_REGION]
REGIONS = PHASE.fleet.regions
GIVEN = Account(
    account="222222222222", alarm_email="ops@trellis.test", domain="a.trellis.test", zone="Z0123456789ABCDEF"
)
STACK = Stack(StackName.parse("multi-region-edge"), PHASE, GIVEN)
RECORD, CHECK = "aws:route53/record:Record", "aws:route53/healthCheck:HealthCheck"


def edge(*, accelerator: bool = False, evacuated: Collection[str] = ()) -> Graph:
    args = EdgeArgs(
        domain=GIVEN.domain,
        zone=GIVEN.zone,
        regions=[Region(name=name, host=f"{name}.test", zone="Z", balancer=f"arn:{name}") for name in REGIONS],
        evacuated=evacuated,
        topic="arn:topic",
        accelerator=accelerator,
    )
    return recorded(lambda: Edge(STACK, args, pulumi.ResourceOptions()) and None)


@pytest.fixture(scope="module")
def named() -> Graph:
    return edge()


@pytest.fixture(scope="module")
def accelerated() -> Graph:
    return edge(accelerator=True, evacuated=REGIONS[:1])


def test_each_region_answers_for_the_domain_while_it_says_that_it_is_ready(named: Graph) -> None:
    checks = {check.name: check.inputs for check in named.of(CHECK)}
    assert set(checks) == set(REGIONS)
    for check in checks.values():
        assert (check["resourcePath"], check["type"]) == ("/readyz", "HTTPS")
        assert not check["disabled"]
        assert not check["invertHealthcheck"]
    for record in named.of(RECORD):
        assert record.inputs["name"] == GIVEN.domain
        assert record.inputs["latencyRoutingPolicies"] == [{"region": record.name}]
        assert record.inputs["healthCheckId"] == f"{record.name}-id"
        assert record.inputs["aliases"][0]["evaluateTargetHealth"]


def test_a_region_that_is_out_wakes_somebody_and_one_that_was_emptied_does_not(named: Graph) -> None:
    alarm = "aws:cloudwatch/metricAlarm:MetricAlarm"
    assert len(named.of(alarm)) == len(REGIONS)
    assert {one.name for one in edge(evacuated=[REGIONS[1]]).of(alarm)} == {
        f"out-{name}" for name in REGIONS if name != REGIONS[1]
    }


def test_an_evacuated_region_counts_as_failed_and_changes_nothing_else(named: Graph) -> None:
    emptied = edge(evacuated=[REGIONS[1]])
    failed = [one.name for one in emptied.of(CHECK) if one.inputs["disabled"] and one.inputs["invertHealthcheck"]]
    assert failed == [REGIONS[1]]
    assert emptied.of(RECORD) == named.of(RECORD)


def test_an_accelerator_is_led_to_by_the_record_that_was_there(named: Graph, accelerated: Graph) -> None:
    (record,) = accelerated.of(RECORD)
    former = next(one for one in named.of(RECORD) if one.urn == record.urn)
    assert former.inputs["latencyRoutingPolicies"] == record.inputs["latencyRoutingPolicies"]
    assert "healthCheckId" not in record.inputs
    shares = {
        one.inputs["endpointGroupRegion"]: one.inputs["trafficDialPercentage"]
        for one in accelerated.of("aws:globalaccelerator/endpointGroup:EndpointGroup")
    }
    assert shares == {REGIONS[0]: 0, REGIONS[1]: 100, REGIONS[2]: 100}


@pytest.mark.parametrize(
    ("evacuated", "said"),
    [(["mars-1"], "names 'mars-1': the phase is in us-east-1"), (list(REGIONS), "names every region")],
)
def test_a_wrong_evacuation_is_one_sentence(evacuated: list[str], said: str) -> None:
    with pytest.raises(InfraError, match="trellis:evacuated") as caught:
        checked(evacuated, REGIONS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_region_reaches_the_postgresql_of_every_other_and_nothing_else_of_it() -> None:
    def program() -> None:
        sides = [
            Side(
                region=name,
                vpc=f"vpc-{name}",
                cidr=f"10.{number}.0.0/16",
                tables=pulumi.Output.from_input(f"{name}-a,{name}-b"),
                many=2,
                database=f"db-{name}",
                provider=aws.Provider(f"aws-{name}", region=name),
            )
            for number, name in enumerate(REGIONS)
        ]
        Peering(STACK, sides, pulumi.ResourceOptions())

    graph = recorded(program)
    opened = {
        (one.inputs["securityGroupId"], one.inputs["cidrIpv4"], one.inputs["fromPort"], one.inputs["toPort"])
        for one in graph.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    }
    numbers = dict(enumerate(REGIONS))
    assert opened == {
        (f"db-{here}", f"10.{there}.0.0/16", 5432, 5432)
        for here in REGIONS
        for there, name in numbers.items()
        if name != here
    }
    routes = {
        (one.inputs["routeTableId"], one.inputs["destinationCidrBlock"]) for one in graph.of("aws:ec2/route:Route")
    }
    assert routes == {
        (f"{here}-{table}", f"10.{there}.0.0/16")
        for here in REGIONS
        for table in "ab"
        for there, name in numbers.items()
        if name != here
    }
    for route in graph.of("aws:ec2/route:Route"):
        assert route.provider.endswith(f"aws-{route.inputs['routeTableId'].rpartition('-')[0]}")


def test_the_prometheus_above_all_regions_finds_and_reaches_each_regions_own_from_each() -> None:
    def program() -> None:
        seen = [
            Watched(
                region=name,
                vpc=f"vpc-{name}",
                cidr=f"10.{number}.0.0/16",
                host=f"metrics-{name}.test",
                zone="Z",
                group=f"metrics-{name}",
                provider=aws.Provider(f"aws-{name}", region=name),
            )
            for number, name in enumerate(REGIONS)
        ]
        Metrics(STACK, seen, pulumi.ResourceOptions())

    graph = recorded(program)
    (zone,) = graph.of("aws:route53/zone:Zone")
    assert {one["vpcRegion"]: one["vpcId"] for one in zone.inputs["vpcs"]} == {name: f"vpc-{name}" for name in REGIONS}
    named = {one.inputs["name"]: one.inputs["aliases"][0]["name"] for one in graph.of("aws:route53/record:Record")}
    assert named == {metrics_host(name): f"metrics-{name}.test" for name in REGIONS}
    opened = {
        (one.inputs["securityGroupId"], one.inputs["cidrIpv4"], one.inputs["fromPort"], one.inputs["toPort"])
        for one in graph.of("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
    }
    assert opened == {
        (f"metrics-{here}", f"10.{there}.0.0/16", 9090, 9090) for here in REGIONS for there in range(len(REGIONS))
    }


def test_the_ways_to_the_writer_are_there_before_what_writes() -> None:
    order = [str(name) for name in stacks_of(PHASE)]
    edge_at = order.index("multi-region-edge")
    assert all(name.endswith("-infra") for name in order[:edge_at])
    assert all(name.endswith("-apps") for name in order[edge_at + 1 :])
