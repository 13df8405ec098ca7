"""Where users of all regions come in by name: each is answered with the nearest region that is ready."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.alarms import Alarm, watch
from infra.aws.edge_accelerator import accelerator
from infra.aws.edge_region import Region
from infra.component import Component
from infra.settings import Stack

# The app's own check of all that it needs: database, cache, index, models.
_READY: Final = "/readyz"
_INTERVAL_S: Final = 10
_FAILURES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeArgs:
    """`zone`: id of the domain's hosted zone. `evacuated`: names of regions that get no users. `topic`: of alarms.

    `accelerator`: addresses of AWS's network instead of a record for each region.
    """

    domain: str
    zone: str
    regions: Sequence[Region]
    evacuated: Collection[str]
    topic: pulumi.Input[str]
    accelerator: bool


class Edge(Component):
    """A record a region, with a check of it from many places of the world.

    A region that fails three checks in a row is not answered with any more, 30 s after it began to fail; clients hold
    an address for the minute that AWS says of load balancers. Where every region fails, all are answered with: a check
    that is wrong everywhere takes nobody down.

    With an accelerator the first region's record alone is left, and leads to it. It is the same record: users are never
    without one, whichever way the setting is changed.
    """

    def __init__(self, stack: Stack, args: EdgeArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Edge", stack, opts=opts)
        self._args = args
        if args.accelerator:
            made = accelerator(self, args.regions, args.evacuated)
            self._record(args.regions[0], (made.dns_name, made.hosted_zone_id), None)
        else:
            for region in args.regions:
                self._record(region, (region.host, region.zone), self._check(region).id)
        self.register_outputs({})

    def _check(self, region: Region) -> aws.route53.HealthCheck:
        evacuated = region.name in self._args.evacuated
        check = aws.route53.HealthCheck(
            region.name,
            type="HTTPS",
            fqdn=region.host,
            port=443,
            resource_path=_READY,
            # Route 53 shows a name for the handshake, and does not look at the certificate's.
            enable_sni=True,
            request_interval=_INTERVAL_S,
            failure_threshold=_FAILURES,
            # A disabled check counts as healthy, an inverted one as the opposite: together, the region gets nobody.
            disabled=evacuated,
            invert_healthcheck=evacuated,
            tags=self.tagged(region.name),
            opts=self.child(),
        )
        if not evacuated:
            watch(self, _out(region.name, check.id), self._args.topic)
        return check

    def _record(
        self,
        region: Region,
        target: tuple[pulumi.Input[str], pulumi.Input[str]],
        check: pulumi.Input[str] | None,
    ) -> None:
        """The domain leads to the target (its host, and the zone of that) for users near the region."""
        host, zone = target
        aws.route53.Record(
            region.name,
            zone_id=self._args.zone,
            name=self._args.domain,
            type=aws.route53.RecordType.A,
            set_identifier=region.name,
            latency_routing_policies=[{"region": region.name}],
            health_check_id=check,
            aliases=[{"name": host, "zone_id": zone, "evaluate_target_health": check is not None}],
            opts=self.child(),
        )


def _out(region: str, check: pulumi.Input[str]) -> Alarm:
    return Alarm(
        name=f"out-{region}",
        namespace="AWS/Route53",
        metric="HealthCheckStatus",
        dimensions={"HealthCheckId": check},
        threshold=1,
        minutes=2,
        why=f"{region} is not ready and gets no users: the others carry its load.",
        statistic="Minimum",
        below=True,
        silent_is_bad=True,
    )
