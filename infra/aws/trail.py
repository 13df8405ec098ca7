"""Who did what in the account: AWS's own record of every call that changes something, in all regions."""

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.settings import Stack


class Trail(Component):
    """One for all of a phase's regions: AWS's first copy of these events is free, every further one is paid for.

    What reads or writes objects and rows is not in it; buckets' and databases' own logs say that.
    """

    def __init__(
        self, stack: Stack, bucket: pulumi.Input[str], key: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("aws:Trail", stack, opts=opts)
        aws.cloudtrail.Trail(
            "account",
            name=self.named("account"),
            s3_bucket_name=bucket,
            s3_key_prefix="trail",
            kms_key_id=key,
            is_multi_region_trail=True,
            include_global_service_events=True,
            # A digest each hour: a file that was changed or taken away is noticed.
            enable_log_file_validation=True,
            tags=self.tagged("account"),
            opts=self.child(),
        )
        self.register_outputs({})
