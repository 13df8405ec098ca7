"""The PoC's network: one street with one house on it. No NAT: it would cost more than the machine."""

import ipaddress
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.network import closed
from infra.component import Component
from infra.settings import Stack

_SUBNET_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StreetArgs:
    """`cidr`: of the network. `flow_logs`: ARN of the bucket that keeps who was refused."""

    cidr: str
    zone: str
    flow_logs: pulumi.Input[str]


class Street(Component):
    """`vpc` and its one `subnet`, from which the internet is reached; nothing in it gets an address unasked."""

    def __init__(self, stack: Stack, args: StreetArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Street", stack, opts=opts)
        vpc = closed(self, args.cidr)
        subnet = aws.ec2.Subnet(
            "street",
            vpc_id=vpc.id,
            cidr_block=str(next(ipaddress.ip_network(args.cidr).subnets(prefixlen_diff=_SUBNET_BITS))),
            availability_zone=args.zone,
            map_public_ip_on_launch=False,
            tags=self.tagged("street"),
            opts=self.child(),
        )
        self._ways(vpc, subnet)
        aws.ec2.FlowLog(
            "flows",
            vpc_id=vpc.id,
            traffic_type="REJECT",
            log_destination_type="s3",
            log_destination=args.flow_logs,
            max_aggregation_interval=600,
            tags=self.tagged("flows"),
            opts=self.child(),
        )
        self.vpc, self.subnet = vpc.id, subnet.id
        self.register_outputs({"vpc": vpc.id})

    def _ways(self, vpc: aws.ec2.Vpc, subnet: aws.ec2.Subnet) -> None:
        """To the internet, and to S3 without it."""
        gateway = aws.ec2.InternetGateway("internet", vpc_id=vpc.id, tags=self.tagged("internet"), opts=self.child())
        table = aws.ec2.RouteTable("street", vpc_id=vpc.id, tags=self.tagged("street"), opts=self.child())
        aws.ec2.Route(
            "internet",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=self.child(),
        )
        aws.ec2.RouteTableAssociation("street", subnet_id=subnet.id, route_table_id=table.id, opts=self.child())
        aws.ec2.VpcEndpoint(
            "s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{self.stack.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id],
            tags=self.tagged("s3"),
            opts=self.child(),
        )
