"""What the cluster's service accounts may do in AWS, each to the resources of its own job.

Where Kubernetes' own accounts have no right, it is because Pulumi does the work: certificates are ACM's and records
Route 53's, made by the stacks, so cert-manager and external DNS controllers act inside the cluster only.
"""

from collections.abc import Sequence

import pulumi

from infra.aws.identity import Right
from infra.aws.policies import Statement
from infra.service_accounts import BALANCER, LOKI, NETWORK, SECRETS, SNAPSHOTS, TEMPO, VOLUMES

_EBS_POLICY = "service-role/AmazonEBSCSIDriverPolicy"


def network() -> Right:
    """Addresses for pods: what AWS keeps a policy for. Nodes have no part of it."""
    return Right(account=NETWORK, managed=["AmazonEKS_CNI_Policy"])


def volumes(key: pulumi.Input[str]) -> Right:
    """Disks that carry the driver's own tags, by AWS's policy, encrypted with the stack's key."""
    return Right(account=VOLUMES, managed=[_EBS_POLICY], statements=encrypted_disks(key))


def load_balancer(*target_groups: pulumi.Input[str]) -> Right:
    """To tell target groups which pods are there: the load balancers themselves are not the cluster's.

    Reads have no narrower resource in EC2's and Elastic Load Balancing's authorization.
    """
    return Right(
        account=BALANCER,
        statements=[
            Statement(
                actions=[
                    "ec2:DescribeAvailabilityZones",
                    "ec2:DescribeInstances",
                    "ec2:DescribeNetworkInterfaces",
                    "ec2:DescribeSecurityGroups",
                    "ec2:DescribeSubnets",
                    "ec2:DescribeVpcs",
                    "elasticloadbalancing:DescribeTags",
                    "elasticloadbalancing:DescribeTargetGroupAttributes",
                    "elasticloadbalancing:DescribeTargetGroups",
                    "elasticloadbalancing:DescribeTargetHealth",
                ],
                resources=["*"],
            ),
            Statement(
                actions=["elasticloadbalancing:RegisterTargets", "elasticloadbalancing:DeregisterTargets"],
                resources=list(target_groups),
            ),
        ],
    )


def external_secrets(
    region: str, account: str, prefix: str, others: Sequence[pulumi.Input[str]], key: pulumi.Input[str]
) -> Right:
    """To read the stack's own secrets, by the beginning of their names, and others by ARN."""
    own = f"arn:aws:secretsmanager:{region}:{account}:secret:{prefix}/*"
    return Right(
        account=SECRETS,
        statements=[
            Statement(
                actions=["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"], resources=[own, *others]
            ),
            Statement(
                actions=["kms:Decrypt"],
                resources=[key],
                conditions={"StringEquals": {"kms:ViaService": f"secretsmanager.{region}.amazonaws.com"}},
            ),
        ],
    )


def logs(bucket: pulumi.Input[str], key: pulumi.Input[str]) -> Right:
    """Loki's objects, in a bucket of its own (its ARN)."""
    return Right(account=LOKI, statements=objects(bucket, "", key, deletes=True))


def traces(bucket: pulumi.Input[str], key: pulumi.Input[str]) -> Right:
    """Tempo's objects, in a bucket of its own: it takes every folder at its root for a tenant."""
    return Right(account=TEMPO, statements=objects(bucket, "", key, deletes=True))


def snapshots(bucket: pulumi.Input[str], key: pulumi.Input[str]) -> Right:
    """Qdrant's snapshots in the bucket of backups. What is there only its lifecycle deletes."""
    return Right(account=SNAPSHOTS, statements=objects(bucket, "qdrant", key, deletes=False))


def objects(bucket: pulumi.Input[str], folder: str, key: pulumi.Input[str], *, deletes: bool) -> Sequence[Statement]:
    """To keep objects in one folder of a bucket (its ARN; all of it without one), and read them again."""
    there = {"StringLike": {"s3:prefix": [folder, f"{folder}/*"]}} if folder else {}
    return [
        Statement(actions=["s3:GetBucketLocation"], resources=[bucket]),
        Statement(actions=["s3:ListBucket"], resources=[bucket], conditions=there),
        Statement(
            actions=[
                "s3:GetObject",
                "s3:PutObject",
                "s3:AbortMultipartUpload",
                "s3:ListMultipartUploadParts",
                *(["s3:DeleteObject"] if deletes else []),
            ],
            resources=[pulumi.Output.concat(bucket, f"/{folder}/*" if folder else "/*")],
        ),
        Statement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key]),
    ]


def encrypted_disks(key: pulumi.Input[str]) -> Sequence[Statement]:
    """To make and attach disks encrypted with the key: EC2 does it in the caller's name, by a grant."""
    return [
        Statement(
            actions=[
                "kms:Decrypt",
                "kms:DescribeKey",
                "kms:Encrypt",
                "kms:GenerateDataKeyWithoutPlaintext",
                "kms:ReEncryptFrom",
                "kms:ReEncryptTo",
            ],
            resources=[key],
        ),
        Statement(
            actions=["kms:CreateGrant"],
            resources=[key],
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        ),
    ]
