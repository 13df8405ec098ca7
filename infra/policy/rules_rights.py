"""Who may do what in AWS."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from infra.policy.finding import UNKNOWN, Said, rule
from infra.recording import Graph, Resource

_OF_ROLES: Final = ("aws:iam/rolePolicy:RolePolicy", "aws:iam/policy:Policy")
_ATTACHED: Final = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
_TOO_MUCH: Final = ("AdministratorAccess", "PowerUserAccess", "IAMFullAccess")


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def statements(policy: object) -> Sequence[Mapping[str, Any]]:
    """Of a policy document, as text or not; none of what is not known yet."""
    if policy == UNKNOWN:
        return []
    document = json.loads(policy) if isinstance(policy, str) else policy
    return _listed((document or {}).get("Statement")) if isinstance(document, Mapping) else []


def _allowed(graph: Graph) -> Iterator[tuple[Resource, Mapping[str, Any]]]:
    for one in graph.resources:
        if one.type.startswith("aws:") and one.inputs.get("policy"):
            for statement in statements(one.inputs["policy"]):
                if statement.get("Effect") == "Allow":
                    yield one, statement


@rule("wild-rights", "CIS AWS Foundations 1.16")
def wild_rights(graph: Graph) -> Said:
    """A key's own policy names its account with `kms:*`, which is how AWS lets roles be given rights to it."""
    for one, statement in _allowed(graph):
        actions = [str(action) for action in _listed(statement.get("Action"))]
        wild = [action for action in actions if action in ("*", "*:*")]
        wild += [action for action in actions if one.type in _OF_ROLES and action.endswith(":*")]
        if wild or "NotAction" in statement:
            yield one, f"It allows {', '.join(wild) or 'everything but a list'}: name the actions."


@rule("managed-rights", "CIS AWS Foundations 1.16")
def managed_rights(graph: Graph) -> Said:
    for one in graph.of(_ATTACHED):
        name = str(one.inputs.get("policyArn")).rpartition("/")[2]
        if name in _TOO_MUCH:
            yield one, f"It gives {name}: write a policy with what is needed."


@rule("public-policies", "AWS Security Hub S3.2, SQS.3, SNS.4")
def public_policies(graph: Graph) -> Said:
    for one, statement in _allowed(graph):
        principal = statement.get("Principal")
        everyone = principal == "*" or (isinstance(principal, Mapping) and "*" in _listed(principal.get("AWS")))
        if everyone and not statement.get("Condition"):
            yield one, "It allows something to everyone: name who."


@rule("tls-only-buckets", "CIS AWS Foundations 2.1.1")
def tls_only_buckets(graph: Graph) -> Said:
    kept = {
        one.inputs.get("bucket")
        for one in graph.of("aws:s3/bucketPolicy:BucketPolicy")
        if one.inputs.get("policy") == UNKNOWN or any(map(_refuses_plain, statements(one.inputs.get("policy"))))
    }
    for one in graph.of("aws:s3/bucket:Bucket"):
        if one.inputs.get("bucket") not in kept:
            yield one, "It answers without TLS: deny what has aws:SecureTransport false in its policy."


def _refuses_plain(statement: Mapping[str, Any]) -> bool:
    condition = ((statement.get("Condition") or {}).get("Bool") or {}).get("aws:SecureTransport")
    return statement.get("Effect") == "Deny" and str(condition).lower() == "false" and statement.get("Principal") == "*"
