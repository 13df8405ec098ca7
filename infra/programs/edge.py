"""What joins the regions: names that lead to the nearest one, and private ways to wherever the database's writer is."""

from collections.abc import Collection, Mapping, Sequence

import pulumi
import pulumi_aws as aws

from infra.aws.alarms import Topic
from infra.aws.edge import Edge as Ways
from infra.aws.edge import EdgeArgs
from infra.aws.edge_metrics import Metrics, Watched
from infra.aws.edge_peering import Peering, Side
from infra.aws.edge_region import Region
from infra.aws.keys import Keys
from infra.errors import InfraError
from infra.layout import StackName, before
from infra.outputs import CellOutputs, read
from infra.programs.cell import provider
from infra.settings import Edge, Stack, key

# Route 53 counts its checks here, and their alarms can be nowhere else.
_HOME = "us-east-1"


def edge(stack: Stack) -> None:
    given = stack.given
    assert isinstance(given, Edge)
    infra = before(stack.name)
    checked(given.evacuated, [name.region for name in infra])
    home = provider(stack, given.account, _HOME)
    by = pulumi.ResourceOptions(providers=[home])
    cells = {name: read(name) for name in infra}
    alarms = Topic(stack, given.account, given.alarm_email, Keys(stack, given.account, by).arn, by)
    args = EdgeArgs(
        domain=given.domain,
        zone=given.zone,
        regions=[_region(name.region, cell) for name, cell in cells.items()],
        evacuated=given.evacuated,
        topic=alarms.arn,
        accelerator=given.accelerator,
    )
    Ways(stack, args, by)
    sides = _sides(stack, given.account, cells)
    Peering(stack, sides, by)
    Metrics(stack, _watched(sides, list(cells.values())), by)
    pulumi.export("address", f"https://{given.domain}")


def checked(evacuated: Collection[str], regions: Sequence[str]) -> None:
    """Raises InfraError for a region that the phase does not have, and where no region would be left."""
    for name in evacuated:
        if name not in regions:
            raise InfraError(f"{key('evacuated')} names '{name}': the phase is in {', '.join(regions)}.")
    if set(evacuated) == set(regions):
        raise InfraError(f"{key('evacuated')} names every region: one has to be left for the users.")


def _region(name: str, cell: CellOutputs) -> Region:
    return Region(name=name, host=cell.balancer_name, zone=cell.balancer_zone, balancer=cell.balancer_arn)


def _sides(stack: Stack, account: str, cells: Mapping[StackName, CellOutputs]) -> Sequence[Side]:
    network = stack.phase.network
    assert network is not None
    return [
        Side(
            region=name.region,
            vpc=cell.vpc,
            cidr=cell.vpc_cidr,
            tables=cell.private_routes,
            many=network.nats,
            database=cell.database_group,
            provider=_provider(stack, account, name.region),
        )
        for name, cell in cells.items()
    ]


def _watched(sides: Sequence[Side], cells: Sequence[CellOutputs]) -> Sequence[Watched]:
    return [
        Watched(
            region=side.region,
            vpc=side.vpc,
            cidr=side.cidr,
            host=cell.metrics_name,
            zone=cell.metrics_zone,
            group=cell.metrics_group,
            provider=side.provider,
        )
        for side, cell in zip(sides, cells, strict=True)
    ]


def _provider(stack: Stack, account: str, region: str) -> aws.Provider:
    return provider(stack, account, region, name=f"aws-{region}")
