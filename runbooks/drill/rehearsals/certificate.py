"""Renewals have failed for four weeks, the certificate ends in 40 hours: it is issued by the second issuer.

Beside it the record that proves the domain to AWS is lost, and put back.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from infra.phases import PhaseName
from runbooks.drill.rehearsal import Rehearsal, Stage, Standing
from runbooks.drill.stages.aws import PROGRAM, Aws, running_aws
from runbooks.drill.stages.cluster import APPS, NEEDS, parts
from runbooks.drill.stages.issuer import Issuer, cluster_issuer
from runbooks.drill.stages.state import certificates, exposed
from runbooks.drill.stages.watched import watched
from tests.cluster.definitions import define
from tests.cluster.rendered import cluster_apps
from tests.support.kubernetes import Object
from tests.support.plane import running_plane
from tests.support.processes import wait_until

DOMAIN: Final = "agents.example.com"
FIRST, SECOND = "letsencrypt", "letsencrypt-fallback"
SECRET: Final = "trellis-tls"  # noqa: S105 - the name of it
LEFT: Final = timedelta(hours=40)
_KINDS: Final = (("cert-manager.io/v1", "Certificate"), ("acme.cert-manager.io/v1", "Challenge"))
_MADE: Final = ("Namespace", "Ingress")
_JOB: Final = "cert-manager"


@dataclass(frozen=True)
class Proof:
    """The record by which AWS sees that the domain is ours. `zone`: id of the hosted zone."""

    aws: Aws
    zone: str
    record: dict[str, Any]
    folder: Path

    def change(self, action: str) -> None:
        file = self.folder / "change.json"
        file.write_text(json.dumps({"Changes": [{"Action": action, "ResourceRecordSet": self.record}]}))
        words = ("--hosted-zone-id", self.zone, "--change-batch", f"file://{file}")
        self.aws.call("route53", "change-resource-record-sets", *words)

    def there(self) -> bool:
        found = self.aws.call("route53", "list-resource-record-sets", "--hosted-zone-id", self.zone)
        values = [one.get("ResourceRecords") for one in found["ResourceRecordSets"]]
        return self.record["ResourceRecords"] in values


@dataclass(kw_only=True)
class Certificate(Standing):
    issuer: Issuer
    proof: Proof

    async def break_it(self) -> None:
        await asyncio.to_thread(self.proof.change, "DELETE")
        self.issuer.stuck.add(FIRST)
        await asyncio.to_thread(self.issuer.put, APPS, SECRET, DOMAIN, FIRST, LEFT)

    async def lost(self) -> str:
        assert await asyncio.to_thread(self.proof.there), "the record that proves the domain is not back"
        return "nothing (the old certificate served until the new one was there)"


@asynccontextmanager
async def certificate(folder: Path) -> AsyncIterator[Certificate]:
    """A cluster of the team's own with cert-manager, in the small phase; an account with a certificate of AWS."""
    rendered = await asyncio.to_thread(cluster_apps, folder / "stacks", PhaseName.SMALL, issuer=FIRST, host=DOMAIN)
    objects = [*(one for one in rendered.objects if one["kind"] in _MADE), *map(cluster_issuer, (FIRST, SECOND))]
    async with AsyncExitStack() as stack:
        built = await asyncio.to_thread(parts)
        await asyncio.to_thread((folder / "cluster").mkdir)
        plane = await asyncio.to_thread(stack.enter_context, running_plane(built, folder / "cluster"))
        kinds: list[Object] = [{"apiVersion": version, "kind": kind} for version, kind in _KINDS]
        await asyncio.to_thread(define, plane, built.definitions, [*objects, *kinds])
        for manifest in objects:
            await asyncio.to_thread(plane.api.apply, manifest)
        issuer = Issuer(plane.api, plane.api.path(rendered.one("Ingress", "api")), folder)
        stack.enter_context(issuer.running())
        ready = partial(plane.api.get, f"/api/v1/namespaces/{APPS}/secrets/{SECRET}")
        await asyncio.to_thread(wait_until, lambda: ready() is not None, "the first certificate is issued")
        aws = stack.enter_context(running_aws(folder / "aws"))
        proof = await asyncio.to_thread(_proof, aws, folder)
        jobs = {_JOB: [stack.enter_context(exposed(partial(certificates, plane.api)))]}
        kubectl = (str(built.program), "kubectl", f"--kubeconfig={plane.kubeconfig}")
        yield Certificate(
            environment={**aws.environment, "DOMAIN": DOMAIN, "ZONE": proof.zone},
            programs={"kubectl": kubectl, "aws": (str(PROGRAM),)},
            prometheus=await stack.enter_async_context(watched(folder, PhaseName.SMALL, jobs)),
            issuer=issuer,
            proof=proof,
        )


def _proof(aws: Aws, folder: Path) -> Proof:
    words = ("--name", DOMAIN.partition(".")[2], "--caller-reference", "domain")
    zone = str(aws.call("route53", "create-hosted-zone", *words)["HostedZone"]["Id"]).rpartition("/")[2]
    asked = aws.call("acm", "request-certificate", "--domain-name", DOMAIN, "--validation-method", "DNS")
    found = aws.call("acm", "describe-certificate", "--certificate-arn", asked["CertificateArn"])
    record = found["Certificate"]["DomainValidationOptions"][0]["ResourceRecord"]
    value = [{"Value": record["Value"]}]
    made = Proof(
        aws, zone, {"Name": record["Name"], "Type": record["Type"], "TTL": 300, "ResourceRecords": value}, folder
    )
    made.change("CREATE")
    return made


def stage(folder: Path) -> AbstractAsyncContextManager[Stage]:
    return certificate(folder)


REHEARSAL = Rehearsal(page="procedures/certificate", alert="CertificateExpiresSoon", needs=NEEDS, stage=stage)
