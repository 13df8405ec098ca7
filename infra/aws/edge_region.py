"""What the edge knows of a region."""

from dataclasses import dataclass

import pulumi


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region's load balancer: its host, the zone that AWS has it in, its ARN."""

    name: str
    host: pulumi.Input[str]
    zone: pulumi.Input[str]
    balancer: pulumi.Input[str]
