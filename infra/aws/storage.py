"""Buckets: what others keep there is encrypted with the stack's key, private, and can be brought back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.policies import Statement, document
from infra.component import Component
from infra.settings import Stack

_UNFINISHED_DAYS: Final = 7
_INFREQUENT_DAYS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketArgs:
    """`kept_days`: objects go after so many days (None: never), older versions of an object after `old_days`.

    `key`: ARN of the key; None where a service writes that knows only S3's own. `writers`: statements that let AWS's
    services write, given the bucket's ARN.
    """

    kept_days: int | None
    old_days: int = 30
    key: pulumi.Input[str] | None
    protect: bool = True


class Bucket(Component):
    """`arn` and `name` (unique in the world: account and region are part of it)."""

    def __init__(
        self,
        stack: Stack,
        name: str,
        account: str,
        args: BucketArgs,
        opts: pulumi.ResourceOptions,
        writers: Sequence[Statement] = (),
    ) -> None:
        super().__init__("aws:Bucket", stack, part=name, opts=opts)
        self._args = args
        self._name = name
        full = f"{self.named(name)}-{account}-{stack.region}"
        self.bucket = aws.s3.Bucket(name, bucket=full, tags=self.tagged(name), opts=self.child(protect=args.protect))
        self._closed()
        self._encrypted()
        self._lifecycle()
        policy = aws.s3.BucketPolicy(
            name, bucket=self.bucket.bucket, policy=document(_tls_only(full), *writers), opts=self.child()
        )
        # Known with the policy alone: AWS's writers are refused until it is there.
        self.name = policy.bucket
        self.arn = policy.bucket.apply(lambda known: f"arn:aws:s3:::{known}")
        self.register_outputs({"name": self.name})

    def _closed(self) -> None:
        aws.s3.BucketPublicAccessBlock(
            self._name,
            bucket=self.bucket.bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self.child(),
        )
        aws.s3.BucketOwnershipControls(
            self._name, bucket=self.bucket.bucket, rule={"object_ownership": "BucketOwnerEnforced"}, opts=self.child()
        )

    def _encrypted(self) -> None:
        key = self._args.key
        by = aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
            sse_algorithm="AES256" if key is None else "aws:kms", kms_master_key_id=key
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            self._name,
            bucket=self.bucket.bucket,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=by, bucket_key_enabled=key is not None
                )
            ],
            opts=self.child(),
        )

    def _lifecycle(self) -> None:
        aws.s3.BucketVersioning(
            self._name, bucket=self.bucket.bucket, versioning_configuration={"status": "Enabled"}, opts=self.child()
        )
        kept = self._args.kept_days
        rule = aws.s3.BucketLifecycleConfigurationRuleArgs(
            id="age",
            status="Enabled",
            filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
            expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=kept) if kept else None,
            noncurrent_version_expiration=aws.s3.BucketLifecycleConfigurationRuleNoncurrentVersionExpirationArgs(
                noncurrent_days=self._args.old_days
            ),
            abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                days_after_initiation=_UNFINISHED_DAYS
            ),
            transitions=[
                aws.s3.BucketLifecycleConfigurationRuleTransitionArgs(
                    days=_INFREQUENT_DAYS, storage_class="STANDARD_IA"
                )
            ]
            if kept is None or kept > 2 * _INFREQUENT_DAYS
            else None,
        )
        aws.s3.BucketLifecycleConfiguration(self._name, bucket=self.bucket.bucket, rules=[rule], opts=self.child())


def _tls_only(bucket: str) -> Statement:
    arn = f"arn:aws:s3:::{bucket}"
    return Statement(
        actions=["s3:*"],
        resources=[arn, f"{arn}/*"],
        principals="*",
        conditions={"Bool": {"aws:SecureTransport": "false"}},
        allow=False,
    )


def log_writers(bucket: str, account: str) -> Sequence[Statement]:
    """AWS's own records: networks' flows, load balancers' requests, and who called AWS (CloudTrail).

    Each service is let in for this account alone, by the condition that its own documentation names.
    """
    arn = f"arn:aws:s3:::{bucket}"
    services: Mapping[str, Mapping[str, Mapping[str, str]]] = {
        "delivery.logs.amazonaws.com": {"StringEquals": {"aws:SourceAccount": account}},
        "cloudtrail.amazonaws.com": {"ArnLike": {"aws:SourceArn": f"arn:aws:cloudtrail:*:{account}:trail/*"}},
        "logdelivery.elasticloadbalancing.amazonaws.com": {
            "ArnLike": {"aws:SourceArn": f"arn:aws:elasticloadbalancing:*:{account}:loadbalancer/*"}
        },
    }
    return [
        statement
        for service, condition in services.items()
        for statement in (
            _granted(service, "s3:PutObject", f"{arn}/*", condition),
            _granted(service, "s3:GetBucketAcl", arn, condition),
        )
    ]


def _granted(service: str, action: str, resource: str, condition: Mapping[str, Mapping[str, str]]) -> Statement:
    return Statement(actions=[action], resources=[resource], principals={"Service": [service]}, conditions=condition)
