"""The names that lead to the regions, in moto's Route 53, as the edge's stack asks for them.

moto keeps records and checks; it looks at no region and answers no DNS. Where users of a region are sent is read off
what it keeps, by the rule of AWS that the program relies on: a disabled check counts as healthy, an inverted one as the
opposite.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infra.recording import Graph, Resource
from runbooks.drill.stages.aws import Aws

_RECORD: Final = "aws:route53/record:Record"
_CHECK: Final = "aws:route53/healthCheck:HealthCheck"


@dataclass(frozen=True)
class Edge:
    """`zone`: id of the hosted zone. `checks`: ids of health checks by region."""

    aws: Aws
    zone: str
    domain: str
    checks: dict[str, str]

    def emptied(self, region: str) -> bool:
        """Whether the region gets nobody by hand."""
        found = self.aws.call("route53", "get-health-check", "--health-check-id", self.checks[region])
        config = found["HealthCheck"]["HealthCheckConfig"]
        return bool(config.get("Disabled") and config.get("Inverted"))


def made(aws: Aws, graph: Graph, folder: Path) -> Edge:
    """The records by which users are led to a region, and their checks."""
    records = [record for record in graph.of(_RECORD) if record.inputs.get("latencyRoutingPolicies")]
    domain = str(records[0].inputs["name"])
    parent = domain.partition(".")[2]
    words = ("route53", "create-hosted-zone", "--name", parent, "--caller-reference", "edge")
    zone = str(aws.call(*words)["HostedZone"]["Id"]).rpartition("/")[2]
    checks = {check.name: _check(aws, check, folder) for check in graph.of(_CHECK)}
    changes = [{"Action": "CREATE", "ResourceRecordSet": _record(record, checks)} for record in records]
    batch = _file(folder / "records.json", {"Changes": changes})
    aws.call("route53", "change-resource-record-sets", "--hosted-zone-id", zone, "--change-batch", batch)
    return Edge(aws, zone, domain, checks)


def _check(aws: Aws, check: Resource, folder: Path) -> str:
    given = check.inputs
    config = {
        "Type": given["type"],
        "FullyQualifiedDomainName": given["fqdn"],
        "Port": int(given["port"]),
        "ResourcePath": given["resourcePath"],
        "EnableSNI": given["enableSni"],
        "RequestInterval": int(given["requestInterval"]),
        "FailureThreshold": int(given["failureThreshold"]),
        "Disabled": given["disabled"],
        "Inverted": given["invertHealthcheck"],
    }
    file = _file(folder / f"check-{check.name}.json", config)
    words = ("route53", "create-health-check", "--caller-reference", check.name, "--health-check-config", file)
    return str(aws.call(*words)["HealthCheck"]["Id"])


def _record(record: Resource, checks: dict[str, str]) -> dict[str, Any]:
    given = record.inputs
    (alias,) = given["aliases"]
    return {
        "Name": given["name"],
        "Type": given["type"],
        "SetIdentifier": given["setIdentifier"],
        "Region": given["latencyRoutingPolicies"][0]["region"],
        "HealthCheckId": checks[record.name],
        "AliasTarget": {
            "HostedZoneId": alias["zoneId"],
            "DNSName": alias["name"],
            "EvaluateTargetHealth": alias["evaluateTargetHealth"],
        },
    }


def _file(path: Path, content: object) -> str:
    """As awscli takes it."""
    path.write_text(json.dumps(content))
    return f"file://{path}"
