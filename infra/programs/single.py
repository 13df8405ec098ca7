"""The PoC: one machine behind one name, with all that it needs."""

import pulumi
import pulumi_aws as aws

from infra.aws.budget import Budget
from infra.aws.instance import Instance, InstanceArgs
from infra.aws.keys import Keys
from infra.aws.settings_secret import SettingsSecret
from infra.aws.storage import Bucket, BucketArgs, log_writers
from infra.aws.street import Street, StreetArgs
from infra.instance.userdata import Machine, user_data
from infra.naming import prefix
from infra.prices import load_prices
from infra.programs.cell import provider
from infra.regions import region
from infra.settings import Single, Stack

_LOGS_DAYS = 90
_NAME_TTL_S = 300


def single(stack: Stack) -> None:
    given, kind = stack.given, stack.phase.instance
    assert isinstance(given, Single)
    assert kind is not None
    # Before anything is made: a region without such machines.
    load_prices().offered(stack.region, (kind,))
    by = pulumi.ResourceOptions(providers=[provider(stack, given.account, stack.region)])
    keys = Keys(stack, given.account, by)
    backups = Bucket(stack, "backups", given.account, BucketArgs(kept_days=None, key=keys.arn), by)
    zone = region(stack.region).zones[0]
    street = Street(stack, StreetArgs(cidr=given.cidr, zone=zone, flow_logs=_logs(stack, given, by).arn), by)
    secret = SettingsSecret(stack, keys.arn, by)
    instance = Instance(
        stack,
        InstanceArgs(
            vpc=street.vpc,
            subnet=street.subnet,
            zone=zone,
            kind=kind,
            key=keys.arn,
            backups=backups.arn,
            secret=secret.arn,
        ),
        by,
    )
    instance.start(_first_start(stack, given, instance, backups, secret))
    _name(given, instance, by)
    Budget(stack, given.account, given.alarm_email, by)
    pulumi.export("address", instance.address)
    pulumi.export("url", f"https://{given.domain}")
    pulumi.export("settings_secret", secret.name)


def _logs(stack: Stack, given: Single, by: pulumi.ResourceOptions) -> Bucket:
    """AWS's writers know no key but S3's own."""
    name = f"{prefix(stack)}-logs-{given.account}-{stack.region}"
    args = BucketArgs(kept_days=_LOGS_DAYS, key=None)
    return Bucket(stack, "logs", given.account, args, by, log_writers(name, given.account))


def _first_start(
    stack: Stack, given: Single, instance: Instance, backups: Bucket, secret: SettingsSecret
) -> pulumi.Output[str]:
    def made(volume: str, bucket: str) -> str:
        return user_data(
            Machine(
                domain=given.domain,
                email=given.alarm_email,
                region=stack.region,
                release=given.release,
                repository=given.repository,
                volume=volume,
                bucket=bucket,
                secret=secret.name,
            )
        )

    return pulumi.Output.all(instance.volume, backups.name).apply(lambda known: made(*known))


def _name(given: Single, instance: Instance, by: pulumi.ResourceOptions) -> None:
    aws.route53.Record(
        "name",
        zone_id=given.zone,
        name=given.domain,
        type="A",
        ttl=_NAME_TTL_S,
        records=[instance.address],
        opts=by,
    )
