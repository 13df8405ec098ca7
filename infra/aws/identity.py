"""Which service account may do what in AWS: a role each, given by EKS to its pods and to nobody else."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.policies import Statement, assumed_by_pods, document
from infra.component import Component
from infra.service_accounts import ServiceAccount
from infra.settings import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """What the pods of one service account may do: statements of our own, and AWS's own policies by name where AWS
    keeps one for exactly this job."""

    account: ServiceAccount
    statements: Sequence[Statement] = ()
    managed: Sequence[str] = ()


class Identity(Component):
    """A role and its association for each right."""

    def __init__(
        self, stack: Stack, cluster: pulumi.Input[str], rights: Sequence[Right], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("aws:Identity", stack, opts=opts)
        for right in rights:
            associate(self, cluster, right.account, role_of(self, right))
        self.register_outputs({})


def role_of(part: Component, right: Right) -> aws.iam.Role:
    """A role that pods of the right's service account get, in the stack's cluster alone."""
    name = right.account.right
    role = aws.iam.Role(
        name,
        name=f"{part.named(name)}-{part.stack.region}",
        assume_role_policy=assumed_by_pods(part.named("cluster"), right.account),
        tags=part.tagged(name),
        opts=part.child(),
    )
    if right.statements:
        aws.iam.RolePolicy(name, role=role.id, policy=document(*right.statements), opts=part.child())
    for policy in right.managed:
        aws.iam.RolePolicyAttachment(
            f"{name}-{policy.rpartition('/')[2]}",
            role=role.name,
            policy_arn=f"arn:aws:iam::aws:policy/{policy}",
            opts=part.child(),
        )
    return role


def associate(part: Component, cluster: pulumi.Input[str], account: ServiceAccount, role: aws.iam.Role) -> None:
    aws.eks.PodIdentityAssociation(
        account.right,
        cluster_name=cluster,
        namespace=account.namespace,
        service_account=account.name,
        role_arn=role.arn,
        tags=part.tagged(account.right),
        opts=part.child(),
    )
