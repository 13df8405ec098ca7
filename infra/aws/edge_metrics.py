"""Private names of each region's Prometheus, and who may ask it. Every region has one that looks at all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.federation import PORT
from infra.component import Component
from infra.scrapes import METRICS_ZONE, metrics_host
from infra.settings import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A region's way to its Prometheus (`infra.aws.federation`): its name, that of its zone, and its security group.

    `provider`: of the region, whose network is `vpc` with the addresses `cidr`.
    """

    region: str
    vpc: pulumi.Input[str]
    cidr: pulumi.Input[str]
    host: pulumi.Input[str]
    zone: pulumi.Input[str]
    group: pulumi.Input[str]
    provider: aws.Provider


class Metrics(Component):
    """One private zone for all regions' networks, a name in it for each, and a rule from each to each."""

    def __init__(self, stack: Stack, regions: Sequence[Watched], opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Metrics", stack, opts=opts)
        zone = aws.route53.Zone(
            "metrics",
            name=METRICS_ZONE,
            comment="Where each region's Prometheus is",
            vpcs=[aws.route53.ZoneVpcArgs(vpc_id=one.vpc, vpc_region=one.region) for one in regions],
            tags=self.tagged("metrics"),
            opts=self.child(),
        )
        for one in regions:
            aws.route53.Record(
                f"metrics-{one.region}",
                zone_id=zone.zone_id,
                name=metrics_host(one.region),
                type=aws.route53.RecordType.A,
                # A connection that is refused says more than a name that leads nowhere.
                aliases=[{"name": one.host, "zone_id": one.zone, "evaluate_target_health": False}],
                opts=self.child(),
            )
            self._let_in(one, {other.region: other.cidr for other in regions})
        self.register_outputs({})

    def _let_in(self, one: Watched, networks: Mapping[str, pulumi.Input[str]]) -> None:
        """By network, its own among them: a group of another region cannot be named."""
        for region, cidr in networks.items():
            name = f"metrics-{one.region}-from-{region}"
            aws.vpc.SecurityGroupIngressRule(
                name,
                security_group_id=one.group,
                cidr_ipv4=cidr,
                ip_protocol="tcp",
                from_port=PORT,
                to_port=PORT,
                description=f"The Prometheus above all regions, in {region}",
                tags=self.tagged(name),
                opts=self.child(provider=one.provider),
            )
