"""What the cluster's service accounts may do in AWS: each to resources of its own job, and nobody else in its place."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pytest

from infra import service_accounts
from infra.aws import rights
from infra.aws.identity import Right
from infra.aws.policies import Statement, assumed_by_pods, document
from infra.service_accounts import BALANCER, LOKI, SECRETS, SNAPSHOTS, TEMPO, VOLUMES, ServiceAccount

KEY = "arn:aws:kms:eu-central-1:111111111111:key/data"
BUCKET, OTHER_BUCKET = "arn:aws:s3:::trellis-small-loki", "arn:aws:s3:::trellis-small-tempo"
TARGETS = "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/api/1"
DATABASE = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:rds!db-1"


def every() -> Mapping[ServiceAccount, Right]:
    """Made anew in each test: ARNs in them belong to the loop that runs it."""
    found = [
        rights.network(),
        rights.volumes(KEY),
        rights.load_balancer(TARGETS),
        rights.external_secrets("eu-central-1", "111111111111", "trellis-small", [DATABASE], KEY),
        rights.snapshots(BUCKET, KEY),
        rights.logs(BUCKET, KEY),
        rights.traces(OTHER_BUCKET, KEY),
    ]
    return {right.account: right for right in found}


async def statements(found: Sequence[Statement]) -> Sequence[Mapping[str, Any]]:
    text = await document(*found).future()
    assert text is not None
    return json.loads(text)["Statement"]


async def allowed(account: ServiceAccount, action: str) -> Sequence[str]:
    """The resources that an action is allowed on."""
    return [
        resource
        for statement in await statements(every()[account].statements)
        if action in statement["Action"]
        for resource in statement["Resource"]
    ]


async def test_a_role_is_handed_to_pods_of_one_service_account_in_one_cluster() -> None:
    text = await assumed_by_pods("trellis-small-cluster", LOKI).future()
    assert text is not None
    (statement,) = json.loads(text)["Statement"]
    assert statement["Principal"] == {"Service": ["pods.eks.amazonaws.com"]}
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-name": "trellis-small-cluster",
        "aws:RequestTag/kubernetes-namespace": "trellis-telemetry",
        "aws:RequestTag/kubernetes-service-account": "loki",
    }


@pytest.mark.parametrize("account", [VOLUMES, BALANCER, SECRETS, SNAPSHOTS, LOKI, TEMPO], ids=lambda one: one.right)
async def test_what_changes_something_is_allowed_on_named_resources_alone(account: ServiceAccount) -> None:
    for statement in await statements(every()[account].statements):
        reads = all(action.split(":")[1].startswith("Describe") for action in statement["Action"])
        assert reads or "*" not in statement["Resource"], statement
        assert not any(action.endswith("*") for action in statement["Action"]), statement


async def test_loki_and_tempo_keep_their_objects_apart() -> None:
    assert await allowed(LOKI, "s3:PutObject") == [f"{BUCKET}/*"]
    assert await allowed(TEMPO, "s3:DeleteObject") == [f"{OTHER_BUCKET}/*"]
    assert await allowed(TEMPO, "s3:ListBucket") == [OTHER_BUCKET]


async def test_who_writes_snapshots_cannot_delete_them() -> None:
    assert await allowed(SNAPSHOTS, "s3:PutObject") == [f"{BUCKET}/qdrant/*"]
    assert await allowed(SNAPSHOTS, "s3:DeleteObject") == []


async def test_the_cluster_registers_pods_in_its_own_target_group_only() -> None:
    assert await allowed(BALANCER, "elasticloadbalancing:RegisterTargets") == [TARGETS]
    assert await allowed(BALANCER, "elasticloadbalancing:ModifyTargetGroup") == []


def test_no_two_service_accounts_share_a_role_or_a_name() -> None:
    accounts = [found for found in vars(service_accounts).values() if isinstance(found, ServiceAccount)]
    assert len(accounts) == len({account.right for account in accounts})
    assert len(accounts) == len({(account.namespace, account.name) for account in accounts})
    assert all(getattr(account, field.name) for account in accounts for field in fields(ServiceAccount))
