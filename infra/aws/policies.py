"""Policy documents of AWS: built from a few typed pieces, never with a wildcard for all actions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra.service_accounts import ServiceAccount

Texts = Sequence[pulumi.Input[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One permission. `principals`: `{"Service": [...]}` or `{"AWS": [...]}`, where a resource has the document."""

    actions: Sequence[str]
    resources: Texts = ()
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    principals: Mapping[str, Texts] | str | None = None
    allow: bool = True

    def document(self) -> Mapping[str, Any]:
        return {
            "Effect": "Allow" if self.allow else "Deny",
            **({"Principal": self.principals} if self.principals else {}),
            "Action": list(self.actions),
            **({"Resource": list(self.resources)} if self.resources else {}),
            **({"Condition": self.conditions} if self.conditions else {}),
        }


def document(*statements: Statement) -> pulumi.Output[str]:
    """The JSON, once every ARN in it is known."""
    made = {"Version": "2012-10-17", "Statement": [statement.document() for statement in statements]}
    return pulumi.Output.from_input(made).apply(lambda known: json.dumps(known, sort_keys=True))


def assumed_by(*services: str) -> pulumi.Output[str]:
    """Of a role that services take: EC2, EKS, RDS's monitoring."""
    return document(Statement(actions=["sts:AssumeRole"], principals={"Service": list(services)}))


def assumed_by_pods(cluster: str, account: ServiceAccount) -> pulumi.Output[str]:
    """Of a role that EKS gives to pods of one service account: no other association can hand it to anybody else.

    EKS says of every session which cluster, namespace and account it is for, as tags of the request.
    """
    whose = {
        "aws:RequestTag/eks-cluster-name": cluster,
        "aws:RequestTag/kubernetes-namespace": account.namespace,
        "aws:RequestTag/kubernetes-service-account": account.name,
    }
    return document(
        Statement(
            actions=["sts:AssumeRole", "sts:TagSession"],
            principals={"Service": ["pods.eks.amazonaws.com"]},
            conditions={"StringEquals": whose},
        )
    )
