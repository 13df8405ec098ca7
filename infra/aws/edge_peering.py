"""Private ways between the regions' networks, for one thing: pods that write to PostgreSQL where its writer is.

Aurora can forward writes from a region that follows, but not all that Trellis writes: no savepoints, no LISTEN and
NOTIFY, no sequences, no functions of ours (docs/decisions/0047). So every region reaches every other one's database,
for the writer may be in any of them, and nothing else of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pulumi
import pulumi_aws as aws

from infra.aws.database import PORT
from infra.component import Component
from infra.settings import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A region's network. `tables`: ids of its private subnets' routes, comma-separated; `many`: how many there are.

    `database`: id of the security group of its PostgreSQL. `provider`: of the region.
    """

    region: str
    vpc: pulumi.Input[str]
    cidr: pulumi.Input[str]
    tables: pulumi.Output[str]
    many: int
    database: pulumi.Input[str]
    provider: aws.Provider


class Peering(Component):
    """A way between each two regions, its routes on both sides, and a rule for each to the other's PostgreSQL."""

    def __init__(self, stack: Stack, sides: Sequence[Side], opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Peering", stack, opts=opts)
        for one, other in combinations(sides, 2):
            way = self._way(one, other)
            for here, there in ((one, other), (other, one)):
                self._routes(here, there, way)
                self._let_in(here, there)
        self.register_outputs({})

    def _way(self, one: Side, other: Side) -> pulumi.Output[str]:
        name = f"{one.region}-{other.region}"
        asked = aws.ec2.VpcPeeringConnection(
            name,
            vpc_id=one.vpc,
            peer_vpc_id=other.vpc,
            peer_region=other.region,
            auto_accept=False,
            tags=self.tagged(name),
            opts=self._in(one),
        )
        accepted = aws.ec2.VpcPeeringConnectionAccepter(
            name,
            vpc_peering_connection_id=asked.id,
            auto_accept=True,
            tags=self.tagged(name),
            opts=self._in(other),
        )
        # A route by a way that nobody accepted yet is refused.
        return accepted.id

    def _routes(self, here: Side, there: Side, way: pulumi.Output[str]) -> None:
        for number in range(here.many):
            aws.ec2.Route(
                f"{here.region}-{there.region}-{number}",
                route_table_id=_part(here.tables, number),
                destination_cidr_block=there.cidr,
                vpc_peering_connection_id=way,
                opts=self._in(here),
            )

    def _let_in(self, here: Side, there: Side) -> None:
        """By network: a group of another region cannot be named."""
        name = f"{here.region}-from-{there.region}"
        aws.vpc.SecurityGroupIngressRule(
            name,
            security_group_id=here.database,
            cidr_ipv4=there.cidr,
            ip_protocol="tcp",
            from_port=PORT,
            to_port=PORT,
            description=f"PostgreSQL from {there.region}",
            tags=self.tagged(name),
            opts=self._in(here),
        )

    def _in(self, side: Side) -> pulumi.ResourceOptions:
        return self.child(provider=side.provider)


def _part(texts: pulumi.Output[str], number: int) -> pulumi.Output[str]:
    return texts.apply(lambda known: known.split(",")[number])
