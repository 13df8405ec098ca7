"""Two addresses of AWS's own network for all regions: where clients keep an address longer than a name says."""

from collections.abc import Collection, Sequence

import pulumi_aws as aws

from infra.aws.edge_region import Region
from infra.component import Component


def accelerator(
    of: Component, regions: Sequence[Region], evacuated: Collection[str]
) -> aws.globalaccelerator.Accelerator:
    """Users enter AWS's network near them and are led to the nearest region whose load balancer has ready pods.

    It sees by itself, from the balancer's own checks of the pods, that a region is out, and moves users in under a
    minute; no name has to change. An evacuated region's share is 0.
    """
    made = aws.globalaccelerator.Accelerator(
        "edge",
        name=of.named("edge"),
        ip_address_type="IPV4",
        enabled=True,
        tags=of.tagged("edge"),
        opts=of.child(),
    )
    listener = aws.globalaccelerator.Listener(
        "edge",
        accelerator_arn=made.arn,
        protocol="TCP",
        port_ranges=[{"from_port": port, "to_port": port} for port in (80, 443)],
        opts=of.child(),
    )
    for region in regions:
        aws.globalaccelerator.EndpointGroup(
            region.name,
            listener_arn=listener.arn,
            endpoint_group_region=region.name,
            traffic_dial_percentage=0 if region.name in evacuated else 100,
            # The app's limits and logs need the client's own address.
            endpoint_configurations=[{"endpoint_id": region.balancer, "client_ip_preservation_enabled": True}],
            opts=of.child(),
        )
    return made
