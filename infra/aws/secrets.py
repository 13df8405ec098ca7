"""Secrets of a region's stack: made inside AWS, so that no state, file or output ever holds one.

A Pulumi resource that makes a random value keeps it in its state. CloudFormation's Secret makes it in Secrets Manager,
and its dynamic references hand it to whoever needs it: what Pulumi sees is the template.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from infra.component import Component
from infra.naming import prefix
from infra.secrets import APP, APP_LOGIN, MANAGED, TOLD_BY, managed
from infra.settings import Stack

CACHE: Final = "cache"
USER_ID: Final = "trellis"
"""Of the cache's user, who is named so as well."""
_SHARED: Final = frozenset({APP, APP_LOGIN})
"""The same in every region: a session or a login of the database is good in all of them."""
_GIVEN: Final = frozenset({"model_key", *TOLD_BY})
"""Keys that nobody can make at random: they hold `unset` until somebody puts them there."""
_UNSET: Final = "unset"
_LENGTH: Final = 48
# No `@admin` and no `@dangerous`: the app empties no cache and reads no other client's connections. `INFO` is for
# clients that ask a node what it is.
ALLOWED: Final = "on ~* &* +@all -@admin -@dangerous +info"

Template = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsArgs:
    """`others`: regions that get a copy of the shared secrets; `first`: whether this one makes those."""

    key: pulumi.Input[str]
    first: bool
    others: Sequence[str]


class Secrets(Component):
    """`cache` (the name of its secret), `cache_user` (an id of ElastiCache): known once they are made."""

    def __init__(self, stack: Stack, args: SecretsArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Secrets", stack, opts=opts)
        body = pulumi.Output.from_input(args.key).apply(lambda key: json.dumps(template(stack, args, key), indent=1))
        made = aws.cloudformation.Stack(
            "secrets",
            name=self.named("secrets"),
            template_body=body,
            # A half-made one is taken back, so that the next try starts from nothing.
            on_failure="DELETE",
            tags=self.tagged("secrets"),
            opts=self.child(protect=True),
        )
        self.cache = made.id.apply(lambda _: managed(stack, CACHE))
        self.cache_user = made.id.apply(lambda _: user_id(stack))
        self.register_outputs({"cache": self.cache})


def user_id(stack: Stack) -> str:
    return f"{prefix(stack)}-app"


def template(stack: Stack, args: SecretsArgs, key: str) -> Template:
    """What CloudFormation is asked for; no value is in it. Names and keys are the workloads' (`infra/secrets.py`)."""
    found: dict[str, Any] = {}
    for name, keys in MANAGED.items():
        if args.first or name not in _SHARED:
            others = args.others if name in _SHARED else ()
            found |= _secret(stack, name, keys, key, others)
    user = {"username": USER_ID}
    found |= {_logical(CACHE): _kept(stack, CACHE, key, _random("password", user))}
    return {"Description": f"Secrets of {prefix(stack)}", "Resources": {**found, "User": _user(stack)}}


def _secret(stack: Stack, name: str, keys: Sequence[str], key: str, others: Sequence[str]) -> Template:
    """Secrets Manager makes one random value a secret: of several, each is made in one of its own and brought here."""
    given = {one: _UNSET for one in keys if one in _GIVEN}
    made = [one for one in keys if one not in _GIVEN]
    replicas = {"ReplicaRegions": [{"Region": region} for region in others]} if others else {}
    if len(made) == 1:
        return {_logical(name): _kept(stack, name, key, {**_random(made[0], given), **replicas})}
    parts = {one: _logical(name, one) for one in made}
    values = json.dumps({**given, **{one: _reference(part, one) for one, part in parts.items()}})
    whole = {_logical(name): _kept(stack, name, key, {"SecretString": {"Fn::Sub": values}, **replicas})}
    return {
        **{part: _kept(stack, f"{name}-{one}", key, _random(one, {})) for one, part in parts.items()},
        **whole,
    }


def _kept(stack: Stack, name: str, key: str, value: Template) -> Template:
    return {
        "Type": "AWS::SecretsManager::Secret",
        "Properties": {"Name": managed(stack, name), "KmsKeyId": key, **value},
    }


def _random(key: str, beside: Mapping[str, str]) -> Template:
    """Letters and digits: the same in an address as by themselves."""
    return {
        "GenerateSecretString": {
            "SecretStringTemplate": json.dumps(beside, sort_keys=True),
            "GenerateStringKey": key,
            "PasswordLength": _LENGTH,
            "ExcludePunctuation": True,
        }
    }


def _user(stack: Stack) -> Template:
    password = {"Fn::Sub": _reference(_logical(CACHE), "password")}
    return {
        "Type": "AWS::ElastiCache::User",
        "Properties": {
            "Engine": "valkey",
            "UserId": user_id(stack),
            "UserName": USER_ID,
            "AccessString": ALLOWED,
            "Passwords": [password],
        },
    }


def _reference(logical: str, key: str) -> str:
    """Read by CloudFormation when it makes what holds it; its own state keeps the reference."""
    return f"{{{{resolve:secretsmanager:${{{logical}}}:SecretString:{key}}}}}"


def _logical(*names: str) -> str:
    return "".join(part.capitalize() for name in names for part in name.replace("-", "_").split("_"))
