"""A private way to a region's Prometheus, for the Prometheus of every region that looks at all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.network import pods_are_reached
from infra.component import Component
from infra.settings import Stack

PORT: Final = 9090
"""Prometheus' own, on the balancer as on the pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationArgs:
    """`subnets`: where the balancer's addresses are; it has none that the internet reaches. `pods`: security group of
    the pods that are reached."""

    vpc: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    pods: pulumi.Input[str]


class Federation(Component):
    """`dns` and `zone` for names that lead here; `target_group` (ARN) that pods register in; `group`: who may ask is
    said by its rules, which the edge's stack makes, for it knows the other regions.

    What goes between regions is encrypted by AWS itself (VPC peering), so there is no certificate of ours to renew.
    """

    def __init__(self, stack: Stack, args: FederationArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Federation", stack, opts=opts)
        group = self._group(args)
        balancer = aws.lb.LoadBalancer(
            "metrics",
            name=self.named("metrics"),
            load_balancer_type="network",
            internal=True,
            subnets=list(args.subnets),
            security_groups=[group.id],
            enable_cross_zone_load_balancing=True,
            enable_deletion_protection=True,
            tags=self.tagged("metrics"),
            opts=self.child(),
        )
        targets = aws.lb.TargetGroup(
            "metrics",
            name=self.named("metrics"),
            vpc_id=args.vpc,
            port=PORT,
            protocol="TCP",
            target_type="ip",
            # Pods see the balancer's own addresses, which their network policies name.
            preserve_client_ip="false",
            health_check=aws.lb.TargetGroupHealthCheckArgs(
                protocol="HTTP", path="/-/ready", interval=10, healthy_threshold=2, unhealthy_threshold=2
            ),
            tags=self.tagged("metrics"),
            opts=self.child(),
        )
        aws.lb.Listener(
            "metrics",
            load_balancer_arn=balancer.arn,
            port=PORT,
            protocol="TCP",
            default_actions=[aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=targets.arn)],
            tags=self.tagged("metrics"),
            opts=self.child(),
        )
        self.dns, self.zone = balancer.dns_name, balancer.zone_id
        self.target_group, self.group = targets.arn, group.id
        self.register_outputs({"dns": self.dns})

    def _group(self, args: FederationArgs) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            "metrics",
            vpc_id=args.vpc,
            description="Other regions' Prometheus to the one of this region",
            tags=self.tagged("metrics"),
            opts=self.child(),
        )
        pods_are_reached(
            self, "metrics", group, args.pods, PORT, to="Prometheus", come_from="the other regions' Prometheus"
        )
        return group
