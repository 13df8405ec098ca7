"""Log groups that AWS's services write to: encrypted, and not for ever, as those are that they make by themselves."""

from typing import Final

import pulumi
import pulumi_aws as aws

from infra.component import Component

_KEPT_DAYS: Final = 30


def log_group(of: Component, name: str, path: str, key: pulumi.Input[str]) -> aws.cloudwatch.LogGroup:
    """Args: `path`: the name that the service looks for. `key`: ARN."""
    return aws.cloudwatch.LogGroup(
        name, name=path, kms_key_id=key, retention_in_days=_KEPT_DAYS, tags=of.tagged(name), opts=of.child()
    )
