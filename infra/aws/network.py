"""A region's network: subnets in three zones, the way out, private ways to AWS, and a record of who talked to whom."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.errors import InfraError
from infra.settings import Stack

_PUBLIC_BITS: Final = 8
"""A /16 gives /24s to load balancers and NAT, and /19s to nodes and pods, which take an address each."""
_PRIVATE_BITS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkArgs:
    """`cidr`: of the whole, /18 or larger. `zones`: names. `nats`: NAT gateways, one for all zones or one each.

    `endpoints`: AWS services reached without the internet, by their last name (`ecr.api`). `flow_logs`: ARN of the
    bucket that keeps which addresses talked to which. `cluster`: name of the cluster that finds its subnets by tag.
    """

    cidr: str
    zones: Sequence[str]
    nats: int
    endpoints: Sequence[str]
    flow_logs: pulumi.Input[str]
    cluster: str

    def __post_init__(self) -> None:
        if self.nats not in (1, len(self.zones)):
            raise InfraError(f"A network has one NAT gateway, or one a zone ({len(self.zones)}): not {self.nats}.")

    @property
    def public(self) -> Sequence[str]:
        """Networks of the public subnets: the first eighth of the whole holds them."""
        parts = ipaddress.ip_network(self.cidr).subnets(prefixlen_diff=_PUBLIC_BITS)
        return [str(part) for part, _ in zip(parts, self.zones, strict=False)]

    @property
    def private(self) -> Sequence[str]:
        parts = list(ipaddress.ip_network(self.cidr).subnets(prefixlen_diff=_PRIVATE_BITS))
        return [str(part) for part in parts[1 : 1 + len(self.zones)]]


def closed(part: Component, cidr: str) -> aws.ec2.Vpc:
    """A network of that part's in which nobody reaches anybody before a security group says so."""
    vpc = aws.ec2.Vpc(
        "vpc",
        cidr_block=cidr,
        enable_dns_hostnames=True,
        enable_dns_support=True,
        tags=part.tagged("vpc"),
        opts=part.child(),
    )
    # AWS opens this one between all in the network.
    aws.ec2.DefaultSecurityGroup(
        "default", vpc_id=vpc.id, ingress=[], egress=[], tags=part.tagged("default"), opts=part.child()
    )
    return vpc


def users_come_in(part: Component, group: aws.ec2.SecurityGroup, *, plain: str) -> None:
    """Opens a group to the internet, at 80 and 443 alone. `plain`: what 80 is for."""
    for port, why in ((80, plain), (443, "Users")):
        aws.vpc.SecurityGroupIngressRule(
            f"internet-{port}",
            security_group_id=group.id,
            cidr_ipv4="0.0.0.0/0",
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=why,
            tags=part.tagged(f"internet-{port}"),
            opts=part.child(),
        )


def pods_are_reached(
    part: Component,
    name: str,
    group: aws.ec2.SecurityGroup,
    pods: pulumi.Input[str],
    port: int,
    *,
    to: str,
    come_from: str,
) -> None:
    """A balancer's group may talk to the group of the pods behind it, and these let it in: one port, no more."""
    for make, of, other, why in (
        (aws.vpc.SecurityGroupEgressRule, group.id, pods, f"To {to}"),
        (aws.vpc.SecurityGroupIngressRule, pods, group.id, f"From {come_from}"),
    ):
        make(
            name,
            security_group_id=of,
            referenced_security_group_id=other,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=why,
            tags=part.tagged(name),
            opts=part.child(),
        )


class Network(Component):
    """`vpc`; `public` and `private`: ids of subnets in the order of the zones, known once they have their ways out."""

    def __init__(self, stack: Stack, args: NetworkArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Network", stack, opts=opts)
        self._args = args
        self.vpc = closed(self, args.cidr)
        self.public = self._to_internet(self._subnets("public", args.public, {"kubernetes.io/role/elb": "1"}))
        self.private = self._by_nat(
            self._subnets(
                "private",
                args.private,
                {"kubernetes.io/role/internal-elb": "1", "karpenter.sh/discovery": args.cluster},
            )
        )
        self._endpoints()
        self._flows()
        self.public_cidrs = args.public
        self.routes = pulumi.Output.all(*(way.table.id for way in self._inward)).apply(",".join)
        self.register_outputs({"vpc": self.vpc.id})

    def _subnets(self, kind: str, networks: Sequence[str], more: dict[str, str]) -> Sequence[aws.ec2.Subnet]:
        return [
            aws.ec2.Subnet(
                f"{kind}-{zone}",
                vpc_id=self.vpc.id,
                cidr_block=network,
                availability_zone=zone,
                # Load balancers and NAT bring addresses of their own: nothing here gets one unasked.
                map_public_ip_on_launch=False,
                tags={**self.tagged(f"{kind}-{zone}"), **more},
                opts=self.child(),
            )
            for zone, network in zip(self._args.zones, networks, strict=True)
        ]

    def _to_internet(self, subnets: Sequence[aws.ec2.Subnet]) -> Sequence[pulumi.Output[str]]:
        gateway = aws.ec2.InternetGateway(
            "internet", vpc_id=self.vpc.id, tags=self.tagged("internet"), opts=self.child()
        )
        outward = self._table("public", gateway_id=gateway.id)
        return [
            self._route_by(f"public-{zone}", subnet, outward)
            for zone, subnet in zip(self._args.zones, subnets, strict=True)
        ]

    def _by_nat(self, subnets: Sequence[aws.ec2.Subnet]) -> Sequence[pulumi.Output[str]]:
        """Through the gateway of their own zone, where each has one."""
        ways = list(zip(self._args.zones, self.public, strict=True))[: self._args.nats]
        self._inward = [self._table(f"private-{zone}", nat_gateway_id=self._nat(zone, by).id) for zone, by in ways]
        return [
            self._route_by(f"private-{zone}", subnet, self._inward[number % len(ways)])
            for number, (zone, subnet) in enumerate(zip(self._args.zones, subnets, strict=True))
        ]

    def _nat(self, zone: str, subnet: pulumi.Input[str]) -> aws.ec2.NatGateway:
        address = aws.ec2.Eip(f"nat-{zone}", domain="vpc", tags=self.tagged(f"nat-{zone}"), opts=self.child())
        return aws.ec2.NatGateway(
            f"nat-{zone}",
            allocation_id=address.id,
            subnet_id=subnet,
            tags=self.tagged(f"nat-{zone}"),
            opts=self.child(),
        )

    def _table(self, name: str, **target: pulumi.Input[str]) -> "_Table":
        table = aws.ec2.RouteTable(name, vpc_id=self.vpc.id, tags=self.tagged(name), opts=self.child())
        # A route of its own: a table that lists its routes fights over those that others add.
        route = aws.ec2.Route(
            name, route_table_id=table.id, destination_cidr_block="0.0.0.0/0", opts=self.child(), **target
        )
        return _Table(table, route)

    def _route_by(self, name: str, subnet: aws.ec2.Subnet, way: "_Table") -> pulumi.Output[str]:
        """The subnet's id, known once what is in it can reach out: nodes that cannot never join."""
        link = aws.ec2.RouteTableAssociation(name, subnet_id=subnet.id, route_table_id=way.table.id, opts=self.child())
        return pulumi.Output.all(subnet.id, link.id, way.route.id).apply(lambda known: str(known[0]))

    def _endpoints(self) -> None:
        region = self.stack.region
        aws.ec2.VpcEndpoint(
            "s3",
            vpc_id=self.vpc.id,
            service_name=f"com.amazonaws.{region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[way.table.id for way in self._inward],
            tags=self.tagged("s3"),
            opts=self.child(),
        )
        if not self._args.endpoints:
            return
        group = aws.ec2.SecurityGroup(
            "endpoints",
            vpc_id=self.vpc.id,
            description="Private ways to AWS",
            tags=self.tagged("endpoints"),
            opts=self.child(),
        )
        aws.vpc.SecurityGroupIngressRule(
            "endpoints",
            security_group_id=group.id,
            cidr_ipv4=self._args.cidr,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            description="HTTPS from this network",
            tags=self.tagged("endpoints"),
            opts=self.child(),
        )
        for name in self._args.endpoints:
            aws.ec2.VpcEndpoint(
                name,
                vpc_id=self.vpc.id,
                service_name=f"com.amazonaws.{region}.{name}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=list(self.private),
                security_group_ids=[group.id],
                tags=self.tagged(name),
                opts=self.child(),
            )

    def _flows(self) -> None:
        aws.ec2.FlowLog(
            "flows",
            vpc_id=self.vpc.id,
            traffic_type="ALL",
            log_destination_type="s3",
            log_destination=self._args.flow_logs,
            max_aggregation_interval=600,
            tags=self.tagged("flows"),
            opts=self.child(),
        )


@dataclass(frozen=True, slots=True)
class _Table:
    """`route`: its way out."""

    table: aws.ec2.RouteTable
    route: aws.ec2.Route
