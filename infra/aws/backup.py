"""Copies of the database beyond its own days of backups, which who may delete the database may not delete with it."""

from collections.abc import Sequence
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.policies import assumed_by
from infra.component import Component
from infra.settings import Stack

_WEEKS_KEPT_DAYS: Final = 35
_MONTHS_KEPT_DAYS: Final = 365
_LEAST_DAYS: Final = 7
_WITHIN_MINUTES: Final = 480
# After RDS's own nightly backup; the month's first Sunday is kept longest.
_WEEKLY: Final = "cron(0 5 ? * SUN *)"
_MONTHLY: Final = "cron(0 5 ? * SUN#1 *)"
_POLICIES: Final = ("AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForRestores")


class Backup(Component):
    """A vault in which nothing is deleted before its day, and a plan for what is named (ARNs)."""

    def __init__(
        self, stack: Stack, resources: Sequence[pulumi.Input[str]], key: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("aws:Backup", stack, opts=opts)
        vault = aws.backup.Vault(
            "data",
            name=self.named("data"),
            kms_key_arn=key,
            force_destroy=False,
            tags=self.tagged("data"),
            opts=self.child(protect=True),
        )
        # Without days to change one's mind it is governance: a role with the right for it may still lift the lock.
        aws.backup.VaultLockConfiguration(
            "data",
            backup_vault_name=vault.name,
            min_retention_days=_LEAST_DAYS,
            max_retention_days=_MONTHS_KEPT_DAYS,
            opts=self.child(),
        )
        plan = aws.backup.Plan(
            "data",
            name=self.named("data"),
            rules=[
                _rule("weekly", _WEEKLY, _WEEKS_KEPT_DAYS, vault.name),
                _rule("monthly", _MONTHLY, _MONTHS_KEPT_DAYS, vault.name),
            ],
            tags=self.tagged("data"),
            opts=self.child(),
        )
        aws.backup.Selection(
            "data",
            name=self.named("data"),
            plan_id=plan.id,
            iam_role_arn=self._role().arn,
            resources=list(resources),
            opts=self.child(),
        )
        self.register_outputs({})

    def _role(self) -> aws.iam.Role:
        role = aws.iam.Role(
            "backup",
            name=f"{self.named('backup')}-{self.stack.region}",
            assume_role_policy=assumed_by("backup.amazonaws.com"),
            tags=self.tagged("backup"),
            opts=self.child(),
        )
        for policy in _POLICIES:
            aws.iam.RolePolicyAttachment(
                policy, role=role.name, policy_arn=f"arn:aws:iam::aws:policy/service-role/{policy}", opts=self.child()
            )
        return role


def _rule(name: str, schedule: str, kept_days: int, vault: pulumi.Input[str]) -> aws.backup.PlanRuleArgsDict:
    return {
        "rule_name": name,
        "target_vault_name": vault,
        "schedule": schedule,
        "start_window": 60,
        "completion_window": _WITHIN_MINUTES,
        "lifecycle": {"delete_after": kept_days},
    }
