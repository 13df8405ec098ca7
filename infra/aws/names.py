"""The domain's name, where one load balancer answers for all of it."""

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.settings import Stack


class Name(Component):
    """The domain leads to one load balancer (its host, and the zone that AWS has it in)."""

    def __init__(
        self,
        stack: Stack,
        domain: str,
        zone: str,
        balancer: tuple[pulumi.Input[str], pulumi.Input[str]],
        opts: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("aws:Name", stack, opts=opts)
        host, host_zone = balancer
        aws.route53.Record(
            "domain",
            zone_id=zone,
            name=domain,
            type=aws.route53.RecordType.A,
            # There is nowhere else to send anybody: who asks gets the address also while nothing is healthy.
            aliases=[{"name": host, "zone_id": host_zone, "evaluate_target_health": False}],
            opts=self.child(),
        )
        self.register_outputs({})
