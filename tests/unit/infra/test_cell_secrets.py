"""Secrets are made inside AWS: what Pulumi hands over names them, and holds no value."""

import json
from typing import Any

import pytest

from infra.aws.secrets import CACHE, SecretsArgs, template, user_id
from infra.layout import StackName
from infra.phases import PHASES, PhaseName
from infra.secrets import APP, APP_LOGIN, MANAGED, managed
from infra.settings import Account, Stack

KEY = "arn:aws:kms:us-east-1:222222222222:key/1"
OTHERS = ["eu-central-1", "ap-northeast-1"]
GIVEN = Account(
    account="222222222222", alarm_email="ops@trellis.test", domain="a.trellis.test", zone="Z0123456789ABCDEF"
)


def stack(name: str = "multi-region-us-east-1-infra") -> Stack:
    return Stack(StackName.parse(name), PHASES[PhaseName.MULTI_REGION], GIVEN)


def resources(*, first: bool = True) -> dict[str, Any]:
    args = SecretsArgs(key=KEY, first=first, others=OTHERS if first else [])
    return dict(template(stack(), args, KEY)["Resources"])


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {
        one["Properties"]["Name"]: one["Properties"]
        for one in found.values()
        if one["Type"] == "AWS::SecretsManager::Secret"
    }


def keys(secret: dict[str, Any]) -> set[str]:
    if "GenerateSecretString" in secret:
        made = secret["GenerateSecretString"]
        return {*json.loads(made["SecretStringTemplate"]), made["GenerateStringKey"]}
    return set(json.loads(secret["SecretString"]["Fn::Sub"]))


@pytest.mark.parametrize("name", sorted(MANAGED))
def test_every_secret_that_the_workloads_read_has_the_keys_that_they_read(name: str) -> None:
    assert keys(by_name(resources())[managed(stack(), name)]) == set(MANAGED[name])


def test_the_caches_login_is_read_as_the_workloads_do_and_is_the_users_own() -> None:
    found = resources()
    assert keys(by_name(found)[managed(stack(), CACHE)]) == {"username", "password"}
    user = found["User"]["Properties"]
    made = json.loads(by_name(found)[managed(stack(), CACHE)]["GenerateSecretString"]["SecretStringTemplate"])
    assert user["UserName"] == made["username"]
    assert user["UserId"] == user_id(stack())
    assert user["Passwords"] == [{"Fn::Sub": "{{resolve:secretsmanager:${Cache}:SecretString:password}}"}]
    assert "NoPasswordRequired" not in user


def test_a_value_is_made_by_aws_or_refers_to_one_that_is() -> None:
    found = resources()
    for secret in by_name(found).values():
        assert secret["KmsKeyId"] == KEY
        if "SecretString" not in secret:
            assert secret["GenerateSecretString"]["PasswordLength"] >= 32
            continue
        for value in json.loads(secret["SecretString"]["Fn::Sub"]).values():
            logical = value.partition("${")[2].partition("}")[0]
            assert value.startswith("{{resolve:secretsmanager:${")
            assert "GenerateSecretString" in found[logical]["Properties"]


def test_what_all_regions_share_is_made_once_and_copied() -> None:
    shared = {managed(stack(), APP), managed(stack(), APP_LOGIN)}
    first, joined = by_name(resources()), by_name(resources(first=False))
    assert {name for name, secret in first.items() if "ReplicaRegions" in secret} == shared
    assert {one["Region"] for one in first[managed(stack(), APP)]["ReplicaRegions"]} == set(OTHERS)
    assert set(first) - set(joined) == shared


def test_the_caches_user_may_neither_empty_it_nor_change_it() -> None:
    allowed = resources()["User"]["Properties"]["AccessString"].split()
    assert {"on", "-@admin", "-@dangerous"} <= set(allowed)
    assert allowed.index("-@dangerous") > allowed.index("+@all")
    assert "nopass" not in allowed
