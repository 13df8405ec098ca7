"""The alarm on what a phase costs: AWS's own reckoning against the budget that the phase declares."""

from typing import Final

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.settings import Stack

# (per cent of the budget, of what was spent or of what the month will come to)
_WARNINGS: Final = ((80, "ACTUAL"), (100, "ACTUAL"), (100, "FORECASTED"))


class Budget(Component):
    """One for a phase in an account, over all its stacks: they are told apart by the tag `phase`, which has to be
    activated as a cost allocation tag once (Billing and Cost Management; it takes a day). Until then it counts nothing.
    """

    def __init__(self, stack: Stack, account: str, email: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Budget", stack, opts=opts)
        aws.budgets.Budget(
            "month",
            account_id=account,
            name=self.named("month"),
            budget_type="COST",
            limit_amount=str(stack.phase.budget_usd_month),
            limit_unit="USD",
            time_unit="MONTHLY",
            # A dollar sign between key and value is AWS's own way to write them.
            cost_filters=[{"name": "TagKeyValue", "values": [f"user:phase${stack.phase.name}"]}],
            notifications=[
                {
                    "comparison_operator": "GREATER_THAN",
                    "threshold": threshold,
                    "threshold_type": "PERCENTAGE",
                    "notification_type": kind,
                    "subscriber_email_addresses": [email],
                }
                for threshold, kind in _WARNINGS
            ],
            tags=self.tagged("month"),
            opts=self.child(),
        )
        self.register_outputs({})
