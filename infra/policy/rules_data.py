"""What holds data: encrypted, kept, protected, its secrets marked; and what every resource carries."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from infra.layout import Layer, StackName
from infra.policy.finding import Said, rule
from infra.recording import HIDDEN, Graph, Resource

_INSTANCE: Final = "aws:rds/instance:Instance"
_CLUSTER: Final = "aws:rds/cluster:Cluster"
_GLOBAL: Final = "aws:rds/globalCluster:GlobalCluster"
_CACHE: Final = "aws:elasticache/replicationGroup:ReplicationGroup"
_BUCKET: Final = "aws:s3/bucket:Bucket"
_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
_NODES: Final = "kubernetes:karpenter.k8s.aws/v1:EC2NodeClass"
_LEAST_DAYS: Final = 7

# By type: the inputs that have to be there (true, or a key), dotted.
_ENCRYPTED: Final[Mapping[str, tuple[str, ...]]] = {
    _INSTANCE: ("storageEncrypted", "kmsKeyId"),
    _CLUSTER: ("storageEncrypted", "kmsKeyId"),
    _GLOBAL: ("storageEncrypted",),
    _CACHE: ("atRestEncryptionEnabled", "transitEncryptionEnabled", "kmsKeyId"),
    "aws:ebs/volume:Volume": ("encrypted", "kmsKeyId"),
    "aws:cloudwatch/logGroup:LogGroup": ("kmsKeyId",),
    "aws:cloudtrail/trail:Trail": ("kmsKeyId",),
    "aws:ecr/repository:Repository": ("encryptionConfigurations",),
    "aws:eks/cluster:Cluster": ("encryptionConfig.provider.keyArn",),
    "aws:backup/vault:Vault": ("kmsKeyArn",),
    "aws:secretsmanager/secret:Secret": ("kmsKeyId",),
    "aws:sns/topic:Topic": ("kmsMasterKeyId",),
    "aws:kms/key:Key": ("enableKeyRotation",),
    "kubernetes:storage.k8s.io/v1:StorageClass": ("parameters.encrypted",),
}


def _at(inputs: object, path: str) -> Any:
    for key in path.split("."):
        inputs = inputs.get(key) if isinstance(inputs, Mapping) else None
    return inputs


def _yes(value: object) -> bool:
    return bool(value) and str(value).lower() != "false"


@rule("tags", "AWS Well-Architected COST03; Karpenter's own nodes too")
def tags(graph: Graph) -> Said:
    """Everything that takes tags is given some, and then all of ours."""
    wanted = {"project", "phase", "stack", "managed-by"}
    for one, given in _tagged(graph):
        missing = wanted - {*given}
        if missing:
            yield one, f"It has no tag {', '.join(sorted(missing))}: take `self.tagged`."
    for one in graph.of(_TEMPLATE):
        for kind in sorted({"instance", "volume"} - {_kind(part) for part in _specified(one)}):
            yield one, f"What it starts has no tags for its {kind}: add a tag specification."


def _tagged(graph: Graph) -> Iterator[tuple[Resource, Mapping[str, str]]]:
    for one in graph.resources:
        if one.type in _TAKE_TAGS or (one.type.startswith("aws:") and "tags" in one.inputs):
            yield one, one.inputs.get("tags") or {}
    for one in graph.of(_TEMPLATE):
        for part in _specified(one):
            yield one, part.get("tags") or {}
    for one in graph.of(_NODES):
        yield one, (one.inputs.get("spec") or {}).get("tags") or {}


def _specified(template: Resource) -> list[Mapping[str, Any]]:
    return list(template.inputs.get("tagSpecifications") or ())


def _kind(part: Mapping[str, Any]) -> str:
    return str(part.get("resourceType"))


_TAKE_TAGS: Final = frozenset(
    {
        *(kind for kind in _ENCRYPTED if kind.startswith("aws:")),
        _BUCKET,
        _TEMPLATE,
        "aws:acm/certificate:Certificate",
        "aws:ec2/eip:Eip",
        "aws:ec2/flowLog:FlowLog",
        "aws:ec2/instance:Instance",
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/natGateway:NatGateway",
        "aws:ec2/networkInterface:NetworkInterface",
        "aws:ec2/routeTable:RouteTable",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/vpc:Vpc",
        "aws:ec2/vpcEndpoint:VpcEndpoint",
        "aws:ec2/vpcPeeringConnection:VpcPeeringConnection",
        "aws:eks/addon:Addon",
        "aws:eks/nodeGroup:NodeGroup",
        "aws:globalaccelerator/accelerator:Accelerator",
        "aws:iam/role:Role",
        "aws:lb/loadBalancer:LoadBalancer",
        "aws:lb/targetGroup:TargetGroup",
        "aws:rds/clusterInstance:ClusterInstance",
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:sqs/queue:Queue",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "aws:wafv2/webAcl:WebAcl",
    }
)


@rule("encryption", "CIS AWS Foundations 2.2.1, 2.3.1; AWS Security Hub SNS.1, SQS.1, ECR.5")
def encryption(graph: Graph) -> Said:
    for one in graph.resources:
        for path in _ENCRYPTED.get(one.type, ()):
            if not _yes(_at(one.inputs, path)):
                yield one, f"Its {path} is not set: encrypt it with the stack's key."
    for one in graph.of("aws:sqs/queue:Queue"):
        if not (one.inputs.get("sqsManagedSseEnabled") or one.inputs.get("kmsMasterKeyId")):
            yield one, "Its messages are not encrypted: set sqsManagedSseEnabled, or a key."
    for one in graph.of(_TEMPLATE, _NODES):
        if not all(_yes((part.get("ebs") or {}).get("encrypted")) for part in _disks(one)) or not _disks(one):
            yield one, "A disk of its machines is not encrypted: set encrypted in its block devices."


def _disks(one: Resource) -> list[Mapping[str, Any]]:
    return list((one.inputs.get("spec") or one.inputs).get("blockDeviceMappings") or ())


@rule("buckets", "CIS AWS Foundations 2.1.4; AWS Security Hub S3.14")
def buckets(graph: Graph) -> Said:
    """Encrypted, closed to the public in each of the four ways, versioned."""
    closed = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    checks: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": lambda one: bool(
            one.get("rules")
        ),
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": lambda one: all(one.get(key) for key in closed),
        "aws:s3/bucketVersioning:BucketVersioning": lambda one: _at(one, "versioningConfiguration.status") == "Enabled",
    }
    for kind, kept in checks.items():
        right = {one.inputs.get("bucket") for one in graph.of(kind) if kept(one.inputs)}
        for one in graph.of(_BUCKET):
            if one.inputs.get("bucket") not in right:
                yield one, f"It has no {kind.rpartition(':')[2]} that is complete: add it."


def _lasting(graph: Graph) -> bool:
    """The PoC's one machine is made anew from its backups."""
    return StackName.parse(graph.stack).layer is not Layer.SINGLE


@rule("protection", "AWS Security Hub RDS.7, RDS.8; Pulumi's protect")
def protection(graph: Graph) -> Said:
    for one in graph.of(_INSTANCE, _CLUSTER, _GLOBAL, _CACHE) if _lasting(graph) else ():
        if not one.protect:
            yield one, "Pulumi may delete it by mistake: protect it."
        if one.type != _CACHE and not one.inputs.get("deletionProtection"):
            yield one, "AWS may delete it by mistake: set deletionProtection."
        if one.type in (_INSTANCE, _CLUSTER) and not _remembered(one.inputs):
            yield one, "Nothing is left when it is deleted: name a final snapshot."
    for one in graph.of("aws:kms/key:Key"):
        if not one.protect:
            yield one, "What is encrypted with it could be lost by mistake: protect it."


def _remembered(inputs: Mapping[str, Any]) -> bool:
    """A read replica has nothing that its source has not."""
    if inputs.get("replicateSourceDb"):
        return True
    return bool(inputs.get("finalSnapshotIdentifier")) and not inputs.get("skipFinalSnapshot")


@rule("backups", "AWS Well-Architected REL09; AWS Security Hub RDS.11, ElastiCache.1")
def backups(graph: Graph) -> Said:
    """A read replica is made anew from its source."""
    if not _lasting(graph):
        return
    for one in graph.of(_INSTANCE, _CLUSTER, _CACHE):
        key = "snapshotRetentionLimit" if one.type == _CACHE else "backupRetentionPeriod"
        days = int(one.inputs.get(key) or 0)
        if days < _LEAST_DAYS and not one.inputs.get("replicateSourceDb"):
            yield one, f"Its backups are kept {days} days: keep them {_LEAST_DAYS} or more."


@rule("log-retention", "CIS AWS Foundations 3; AWS Security Hub CloudWatch.16")
def log_retention(graph: Graph) -> Said:
    for one in graph.of("aws:cloudwatch/logGroup:LogGroup"):
        if not one.inputs.get("retentionInDays"):
            yield one, "Its lines are kept, and paid for, for ever: set retentionInDays."


_FIELD: Final = re.compile(r"(password|secretString|secretBinary|authToken|privateKey)(Wo)?$", re.IGNORECASE)
_LOOKS: Final = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\bgh[pousr]_[A-Za-z0-9]{30}|\bxox[abp]-\w{10}|\bsk-[A-Za-z0-9-]{20}"
)


@rule("secrets", "CIS AWS Foundations; Pulumi's secrets", offline=True)
def secrets(graph: Graph) -> Said:
    """Marked where a provider takes one, and nowhere a text that looks like one."""
    for one in graph.resources:
        for path, value in _texts(one.inputs, ""):
            if _LOOKS.search(value):
                yield one, f"{path} looks like a secret: take it from a Pulumi secret."
            elif one.type.startswith("aws:") and _FIELD.search(path) and value not in ("", HIDDEN):
                yield one, f"{path} is no Pulumi secret: mark it."
    for path, value in _texts(graph.outputs, ""):
        wrong = _LOOKS.search(value) or (_FIELD.search(path) and value not in ("", HIDDEN))
        if wrong and graph.resources:
            yield graph.resources[0], f"The stack's output {path} shows a secret: mark it, or leave it out."


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
    elif isinstance(value, str):
        yield path, value
