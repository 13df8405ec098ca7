"""The certificate of the domain, proven by a record in its zone and renewed by AWS."""

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.settings import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateArgs:
    """`zone`: id of the hosted zone that answers for the domain.

    `proves`: whether this stack writes the record that proves the domain. AWS asks for the same record in every region
    of an account: only one stack may own it, or taking one region down ends the others' renewal.
    """

    domain: str
    zone: str
    proves: bool


class Certificate(Component):
    """`arn`, known once AWS has seen the proof."""

    def __init__(self, stack: Stack, args: CertificateArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Certificate", stack, opts=opts)
        certificate = aws.acm.Certificate(
            "domain",
            domain_name=args.domain,
            validation_method="DNS",
            tags=self.tagged("domain"),
            opts=self.child(),
        )
        names = [self._proof(certificate, args.zone).fqdn] if args.proves else None
        valid = aws.acm.CertificateValidation(
            "domain", certificate_arn=certificate.arn, validation_record_fqdns=names, opts=self.child()
        )
        self.arn = valid.certificate_arn
        self.register_outputs({"arn": self.arn})

    def _proof(self, certificate: aws.acm.Certificate, zone: str) -> aws.route53.Record:
        option = certificate.domain_validation_options[0]
        return aws.route53.Record(
            "validation",
            zone_id=zone,
            name=option.resource_record_name.apply(str),
            type=option.resource_record_type.apply(str),
            records=[option.resource_record_value.apply(str)],
            ttl=300,
            # What was left of an earlier stack of the same domain is the same record.
            allow_overwrite=True,
            opts=self.child(),
        )
