"""The key that a stack's data is encrypted with."""

import pulumi
import pulumi_aws as aws

from infra.aws.policies import Statement, document
from infra.component import Component
from infra.settings import Stack


class Keys(Component):
    """`arn` of one key, rotated every year, deleted only after a month."""

    def __init__(self, stack: Stack, account: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Keys", stack, opts=opts)
        key = aws.kms.Key(
            "data",
            description=f"Data of {self.named('')[:-1]} in {stack.region or 'all regions'}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            policy=_policy(account, stack.region),
            tags=self.tagged("data"),
            # Without it nothing that was stored can be read again.
            opts=self.child(protect=True),
        )
        aws.kms.Alias(
            "data",
            name=f"alias/{self.named('data' if stack.region else 'edge')}",
            target_key_id=key.key_id,
            opts=self.child(),
        )
        self.arn = key.arn
        self.register_outputs({"arn": key.arn})


def _policy(account: str, region: str) -> pulumi.Output[str]:
    """The account decides by its own policies who uses the key; services may for this account's own logs alone."""
    root = Statement(actions=["kms:*"], resources=["*"], principals={"AWS": [f"arn:aws:iam::{account}:root"]})
    trail = Statement(
        actions=["kms:GenerateDataKey*", "kms:DescribeKey"],
        resources=["*"],
        principals={"Service": ["cloudtrail.amazonaws.com"]},
        conditions={"StringLike": {"aws:SourceArn": f"arn:aws:cloudtrail:*:{account}:trail/*"}},
    )
    # Alarms tell topics that are encrypted with the key.
    alarms = Statement(
        actions=["kms:Decrypt", "kms:GenerateDataKey*"],
        resources=["*"],
        principals={"Service": ["cloudwatch.amazonaws.com"]},
        conditions={"StringEquals": {"aws:SourceAccount": account}},
    )
    if not region:
        return document(root, trail, alarms)
    logs = Statement(
        actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
        resources=["*"],
        principals={"Service": [f"logs.{region}.amazonaws.com"]},
        conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{region}:{account}:*"}},
    )
    return document(root, trail, logs, alarms)
