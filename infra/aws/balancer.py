"""The way in: a load balancer with TLS before the cluster's API pods."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.network import pods_are_reached, users_come_in
from infra.component import Component
from infra.settings import Stack

_TLS: Final = "ELBSecurityPolicy-TLS13-1-2-2021-06"
POD_PORT: Final = 8321
# The app says something on an open stream every 15 s, and keeps idle connections longer than this (app/serving.py).
IDLE_S: Final = 60
# What a pod that leaves still has under way: as long as it is given to end (TRELLIS_DRAIN_S and its grace).
LEAVING_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerArgs:
    """`subnets`: public ones. `certificate`: ARN. `pods`: security group of the pods that are reached. `logs`: name of
    the bucket of requests."""

    vpc: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    certificate: pulumi.Input[str]
    pods: pulumi.Input[str]
    logs: pulumi.Input[str]


class Balancer(Component):
    """`arn`; `dns` and `zone` for names that lead here; `target_group` (ARN) that pods register in."""

    def __init__(self, stack: Stack, args: BalancerArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Balancer", stack, opts=opts)
        self._args = args
        group = self._group()
        balancer = aws.lb.LoadBalancer(
            "api",
            name=self.named("api"),
            load_balancer_type="application",
            internal=False,
            subnets=list(args.subnets),
            security_groups=[group.id],
            drop_invalid_header_fields=True,
            enable_deletion_protection=True,
            desync_mitigation_mode="defensive",
            idle_timeout=IDLE_S,
            access_logs=aws.lb.LoadBalancerAccessLogsArgs(bucket=args.logs, prefix="balancer", enabled=True),
            tags=self.tagged("api"),
            opts=self.child(),
        )
        targets = self._targets()
        self._listeners(balancer, targets)
        self.arn = balancer.arn
        self.dns, self.zone, self.target_group = balancer.dns_name, balancer.zone_id, targets.arn
        self.register_outputs({"dns": self.dns})

    def _group(self) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            "balancer",
            vpc_id=self._args.vpc,
            description="The internet to the load balancer",
            tags=self.tagged("balancer"),
            opts=self.child(),
        )
        users_come_in(self, group, plain="80 only leads to 443")
        pods_are_reached(
            self,
            "pods",
            group,
            self._args.pods,
            POD_PORT,
            to="the API's pods",
            come_from="the load balancer to the API's pods",
        )
        return group

    def _targets(self) -> aws.lb.TargetGroup:
        return aws.lb.TargetGroup(
            "api",
            name=self.named("api"),
            vpc_id=self._args.vpc,
            port=POD_PORT,
            protocol="HTTP",
            target_type="ip",
            deregistration_delay=LEAVING_S,
            # Answers take from milliseconds to a minute: who has the fewest under way is next.
            load_balancing_algorithm_type="least_outstanding_requests",
            health_check=aws.lb.TargetGroupHealthCheckArgs(
                path="/readyz", interval=5, timeout=4, healthy_threshold=2, unhealthy_threshold=2, matcher="200"
            ),
            tags=self.tagged("api"),
            opts=self.child(),
        )

    def _listeners(self, balancer: aws.lb.LoadBalancer, targets: aws.lb.TargetGroup) -> None:
        aws.lb.Listener(
            "http",
            load_balancer_arn=balancer.arn,
            port=80,
            protocol="HTTP",
            default_actions=[
                aws.lb.ListenerDefaultActionArgs(
                    type="redirect",
                    redirect=aws.lb.ListenerDefaultActionRedirectArgs(
                        port="443", protocol="HTTPS", status_code="HTTP_301"
                    ),
                )
            ],
            tags=self.tagged("http"),
            opts=self.child(),
        )
        aws.lb.Listener(
            "https",
            load_balancer_arn=balancer.arn,
            port=443,
            protocol="HTTPS",
            ssl_policy=_TLS,
            certificate_arn=self._args.certificate,
            default_actions=[aws.lb.ListenerDefaultActionArgs(type="forward", target_group_arn=targets.arn)],
            tags=self.tagged("https"),
            opts=self.child(),
        )
