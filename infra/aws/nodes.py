"""What Karpenter needs of AWS to make nodes: a role of its own, and word of what AWS is about to take away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.identity import Right, associate, role_of
from infra.aws.policies import Statement, document
from infra.aws.rights import encrypted_disks
from infra.component import Component
from infra.service_accounts import KARPENTER
from infra.settings import Stack

_EVENTS: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "spot": {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]},
    "rebalance": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance Rebalance Recommendation"]},
    "state": {"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]},
    "reservation": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Capacity Reservation Instance Interruption Warning"],
    },
    "health": {"source": ["aws.health"], "detail-type": ["AWS Health Event"]},
}
_KEPT_S: Final = 300
"""A warning of two minutes is of no use to anybody after five."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesArgs:
    """`cluster`: its name. `node_role`: ARN of the role of the nodes that are made. `key`: ARN of their disks' key.
    `account`: whose nodes."""

    cluster: pulumi.Input[str]
    node_role: pulumi.Input[str]
    key: pulumi.Input[str]
    account: str


class Nodes(Component):
    """`queue`: name of the queue with interruptions."""

    def __init__(self, stack: Stack, args: NodesArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Nodes", stack, opts=opts)
        self._args = args
        queue = self._interruptions()
        self.queue = queue.name
        associate(self, args.cluster, KARPENTER, role_of(self, Right(account=KARPENTER, statements=self._may(queue))))
        self.register_outputs({"queue": queue.name})

    def _interruptions(self) -> aws.sqs.Queue:
        queue = aws.sqs.Queue(
            "interruptions",
            name=self.named("interruptions"),
            message_retention_seconds=_KEPT_S,
            sqs_managed_sse_enabled=True,
            tags=self.tagged("interruptions"),
            opts=self.child(),
        )
        rules = f"arn:aws:events:{self.stack.region}:{self._args.account}:rule/{self.named('interruption')}-*"
        policy = _queue_policy(queue, rules)
        aws.sqs.QueuePolicy("interruptions", queue_url=queue.url, policy=policy, opts=self.child())
        for name, pattern in _EVENTS.items():
            rule = aws.cloudwatch.EventRule(
                name,
                name=self.named(f"interruption-{name}"),
                event_pattern=pulumi.Output.json_dumps(pattern),
                tags=self.tagged(f"interruption-{name}"),
                opts=self.child(),
            )
            aws.cloudwatch.EventTarget(name, rule=rule.name, arn=queue.arn, opts=self.child())
        return queue

    def _may(self, queue: aws.sqs.Queue) -> Sequence[Statement]:
        """As Karpenter's own template for its controller narrows it: what is made and ended carries its tags."""
        region, account, cluster = self.stack.region, self._args.account, self.named("cluster")
        return [
            *_makes(region, cluster),
            *_ends(region, cluster),
            *_reads(region, account, cluster),
            *encrypted_disks(self._args.key),
            Statement(actions=["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"], resources=[queue.arn]),
            Statement(
                actions=["iam:PassRole"],
                resources=[self._args.node_role],
                conditions={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
            ),
            # An account's first spot instance makes this role; after that it is there.
            Statement(
                actions=["iam:CreateServiceLinkedRole"],
                resources=[f"arn:aws:iam::{account}:role/aws-service-role/spot.amazonaws.com/*"],
                conditions={"StringEquals": {"iam:AWSServiceName": "spot.amazonaws.com"}},
            ),
        ]


_STARTS: Final = ("ec2:RunInstances", "ec2:CreateFleet")
_USED: Final = ("security-group", "subnet", "capacity-reservation", "placement-group")
_MADE: Final = ("fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request")
_READS: Final = (
    "ec2:DescribeCapacityReservations",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribePlacementGroups",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
)
_ANY_POOL: Final = {"karpenter.sh/nodepool": "*"}


def _tagged(by: str, tags: Mapping[str, str]) -> Mapping[str, str]:
    """A condition on tags; by what: a request that sets them (`Request`), or the resource that has them."""
    return {f"aws:{by}Tag/{key}": value for key, value in tags.items()}


def _owned(cluster: str) -> Mapping[str, str]:
    return {f"kubernetes.io/cluster/{cluster}": "owned"}


def _makes(region: str, cluster: str) -> Sequence[Statement]:
    made = [f"arn:aws:ec2:{region}:*:{kind}/*" for kind in _MADE]
    asked = _tagged("Request", {**_owned(cluster), "eks:eks-cluster-name": cluster})
    any_pool = _tagged("Request", _ANY_POOL)
    return [
        Statement(
            actions=_STARTS,
            resources=[
                *(f"arn:aws:ec2:{region}::{kind}/*" for kind in ("image", "snapshot")),
                *(f"arn:aws:ec2:{region}:*:{kind}/*" for kind in _USED),
            ],
        ),
        Statement(
            actions=_STARTS,
            resources=[f"arn:aws:ec2:{region}:*:launch-template/*"],
            conditions={
                "StringEquals": _tagged("Resource", _owned(cluster)),
                "StringLike": _tagged("Resource", _ANY_POOL),
            },
        ),
        Statement(
            actions=[*_STARTS, "ec2:CreateLaunchTemplate"],
            resources=made,
            conditions={"StringEquals": asked, "StringLike": any_pool},
        ),
        Statement(
            actions=["ec2:CreateTags"],
            resources=made,
            conditions={
                "StringEquals": {
                    **asked,
                    "ec2:CreateAction": ["RunInstances", "CreateFleet", "CreateLaunchTemplate"],
                },
                "StringLike": any_pool,
            },
        ),
    ]


def _ends(region: str, cluster: str) -> Sequence[Statement]:
    instances = f"arn:aws:ec2:{region}:*:instance/*"
    ours = {
        "StringEquals": _tagged("Resource", _owned(cluster)),
        "StringLike": _tagged("Resource", _ANY_POOL),
    }
    return [
        Statement(
            actions=["ec2:CreateTags"],
            resources=[instances],
            conditions={
                **ours,
                "StringEqualsIfExists": _tagged("Request", {"eks:eks-cluster-name": cluster}),
                "ForAllValues:StringEquals": {
                    "aws:TagKeys": ["eks:eks-cluster-name", "karpenter.sh/nodeclaim", "Name"]
                },
            },
        ),
        Statement(
            actions=["ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"],
            resources=[instances, f"arn:aws:ec2:{region}:*:launch-template/*"],
            conditions=ours,
        ),
    ]


def _reads(region: str, account: str, cluster: str) -> Sequence[Statement]:
    """Those of all resources have no narrower one in the services' own authorization."""
    return [
        Statement(actions=_READS, resources=["*"], conditions={"StringEquals": {"aws:RequestedRegion": region}}),
        Statement(actions=["pricing:GetProducts", "iam:ListInstanceProfiles"], resources=["*"]),
        # It makes no profile: the nodes' own is made with the cluster.
        Statement(actions=["iam:GetInstanceProfile"], resources=[f"arn:aws:iam::{account}:instance-profile/*"]),
        Statement(actions=["ssm:GetParameter"], resources=[f"arn:aws:ssm:{region}::parameter/aws/service/*"]),
        Statement(actions=["eks:DescribeCluster"], resources=[f"arn:aws:eks:{region}:{account}:cluster/{cluster}"]),
    ]


def _queue_policy(queue: aws.sqs.Queue, rules: str) -> pulumi.Output[str]:
    """`rules`: ARNs, with a wildcard, of the rules that may put word there."""
    return document(
        Statement(
            actions=["sqs:SendMessage"],
            resources=[queue.arn],
            principals={"Service": ["events.amazonaws.com"]},
            conditions={"ArnLike": {"aws:SourceArn": rules}},
        ),
        Statement(
            actions=["sqs:*"],
            resources=[queue.arn],
            principals="*",
            conditions={"Bool": {"aws:SecureTransport": "false"}},
            allow=False,
        ),
    )
