"""The registry of the app's images in a region: an image never changes, is scanned, and goes when it is long unused."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.naming import prefix
from infra.settings import Stack

_KEPT: Final = 100
_UNTAGGED_DAYS: Final = 7


class Registry(Component):
    """`url` to push to and pull from. What is pushed here, AWS copies to `others` (regions), under the same digest."""

    def __init__(
        self, stack: Stack, account: str, key: pulumi.Input[str], others: Sequence[str], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("aws:Registry", stack, opts=opts)
        name = prefix(stack)
        repository = aws.ecr.Repository(
            "app",
            name=name,
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "KMS", "kms_key": key}],
            force_delete=False,
            tags=self.tagged("app"),
            # A release is rolled back to an image that is here.
            opts=self.child(protect=True),
        )
        aws.ecr.LifecyclePolicy("app", repository=repository.name, policy=json.dumps(_lifecycle()), opts=self.child())
        if others:
            self._copied(account, name, others)
        self.url = repository.repository_url
        self.register_outputs({"url": self.url})

    def _copied(self, account: str, name: str, others: Sequence[str]) -> None:
        """One configuration for all of an account's images in a region: its rules name ours."""
        aws.ecr.ReplicationConfiguration(
            "app",
            replication_configuration={
                "rules": [
                    {
                        "destinations": [{"region": region, "registry_id": account} for region in others],
                        "repository_filters": [{"filter": name, "filter_type": "PREFIX_MATCH"}],
                    }
                ]
            },
            opts=self.child(),
        )


def _lifecycle() -> Mapping[str, object]:
    untagged = {
        "tagStatus": "untagged",
        "countType": "sinceImagePushed",
        "countUnit": "days",
        "countNumber": _UNTAGGED_DAYS,
    }
    newest = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": _KEPT}
    return {
        "rules": [
            {"rulePriority": number, "description": why, "selection": selection, "action": {"type": "expire"}}
            for number, why, selection in (
                (1, "Layers of builds that were replaced", untagged),
                (2, "Only the newest are kept", newest),
            )
        ]
    }
