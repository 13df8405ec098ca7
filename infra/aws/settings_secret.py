"""The PoC's secret settings: an empty place in Secrets Manager, for the team to fill. Pulumi never knows what is in it.

    aws secretsmanager put-secret-value --secret-id trellis-poc/settings --secret-string '{"TRELLIS_MODEL_KEY": "..."}'

Then, on the machine (`aws ssm start-session`): `sudo systemctl restart trellis-settings trellis`.
"""

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.secrets import managed
from infra.settings import Stack

_NAME = "settings"


class SettingsSecret(Component):
    """`name` and `arn`."""

    def __init__(self, stack: Stack, key: pulumi.Input[str], opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:SettingsSecret", stack, part=_NAME, opts=opts)
        self.name = managed(stack, _NAME)
        secret = aws.secretsmanager.Secret(
            _NAME,
            name=self.name,
            description="Secret settings of the PoC's app: one JSON object of TRELLIS_* settings",
            kms_key_id=key,
            # What is in it the team has elsewhere; a name that is kept for a month would stand in the way of the next.
            recovery_window_in_days=0,
            tags=self.tagged(_NAME),
            opts=self.child(),
        )
        self.arn = secret.arn
        self.register_outputs({"arn": secret.arn})
