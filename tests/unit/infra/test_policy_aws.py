"""Each rule about AWS: what keeps it, and what breaks it."""

import json

import pytest

from infra.policy import rules_data, rules_network, rules_rights
from infra.policy.finding import Rule
from infra.recording import HIDDEN
from tests.support.infra import graph, resource
from tests.support.policy import Case, aws, manifest, said

INGRESS = "vpc/securityGroupIngressRule:SecurityGroupIngressRule"
GROUP = "ec2/securityGroup:SecurityGroup"
DEFAULT = "ec2/defaultSecurityGroup:DefaultSecurityGroup"
TEMPLATE = "ec2/launchTemplate:LaunchTemplate"
CLASS = "karpenter.k8s.aws/v1:EC2NodeClass"
DATABASE = "rds/instance:Instance"
CACHE = "elasticache/replicationGroup:ReplicationGroup"
CLUSTER = "eks/cluster:Cluster"
LISTENER = "lb/listener:Listener"
ROLE_POLICY = "iam/rolePolicy:RolePolicy"
BUCKET = aws("s3/bucket:Bucket", "store", bucket="store")
TLS = {"Effect": "Deny", "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
TAGS = {"project": "trellis", "phase": "small", "stack": "s", "managed-by": "pulumi"}
SPECIFIED = [{"resourceType": kind, "tags": TAGS} for kind in ("instance", "volume")]
ALL_CLOSED = dict.fromkeys(("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"), True)
SAFE = {"deletionProtection": True, "finalSnapshotIdentifier": "last", "skipFinalSnapshot": False}


def ingress(port, to=None, **network):
    return aws(INGRESS, fromPort=port, toPort=to or port, **network)


def policy(kind=ROLE_POLICY, **statement):
    whole = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["*"], **statement}
    return aws(kind, policy=json.dumps({"Statement": [whole]}))


def bucket_policy(**changed):
    return aws("s3/bucketPolicy:BucketPolicy", bucket="store", policy=json.dumps({"Statement": [{**TLS, **changed}]}))


def disks(encrypted):
    return aws(TEMPLATE, blockDeviceMappings=[{"ebs": {"encrypted": encrypted}}])


def about_buckets(*, encrypted=True, closed=True, versions="Enabled"):
    kind = "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    return [
        BUCKET,
        aws(kind, bucket="store", rules=[{}] if encrypted else []),
        aws(
            "s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
            bucket="store",
            **{**ALL_CLOSED, "restrictPublicBuckets": closed},
        ),
        aws("s3/bucketVersioning:BucketVersioning", bucket="store", versioningConfiguration={"status": versions}),
    ]


CASES = [
    Case(
        "open-ports",
        (ingress(443, cidrIpv4="0.0.0.0/0"), ingress(22, referencedSecurityGroupId="one")),
        (
            ingress(22, cidrIpv4="0.0.0.0/0"),
            ingress(443, cidrIpv6="::/0", to=444),
            aws(GROUP, ingress=[{"fromPort": 5432, "toPort": 5432, "cidrBlocks": ["0.0.0.0/0"]}]),
            aws(INGRESS, ipProtocol="-1", cidrIpv4="0.0.0.0/0"),
        ),
    ),
    Case(
        "groups-by-reference",
        (ingress(5432, referencedSecurityGroupId="one"), ingress(443, cidrIpv4="0.0.0.0/0")),
        (ingress(5432, cidrIpv4="10.0.0.0/8"),),
    ),
    Case(
        "default-group",
        (aws(DEFAULT, ingress=[], egress=[]),),
        (aws(DEFAULT, ingress=[{"self": True}]), aws(GROUP)),
        (aws("ec2/vpc:Vpc"),),
    ),
    Case(
        "imdsv2",
        (
            aws(TEMPLATE, metadataOptions={"httpTokens": "required"}),
            manifest(CLASS, spec={"metadataOptions": {"httpTokens": "required"}}),
            aws("ec2/instance:Instance", launchTemplate={"id": "one"}),
        ),
        (aws(TEMPLATE, metadataOptions={"httpTokens": "optional"}), aws("ec2/instance:Instance"), manifest(CLASS)),
    ),
    Case(
        "public-databases",
        (aws(DATABASE, publiclyAccessible=False),),
        (aws(DATABASE, publiclyAccessible=True), aws("rds/clusterInstance:ClusterInstance", publiclyAccessible=True)),
    ),
    Case(
        "private-api-server",
        (
            aws(CLUSTER, vpcConfig={"endpointPublicAccess": False}),
            aws(CLUSTER, vpcConfig={"endpointPublicAccess": True, "publicAccessCidrs": ["192.0.2.0/24"]}),
        ),
        (aws(CLUSTER), aws(CLUSTER, vpcConfig={"publicAccessCidrs": ["0.0.0.0/0"]})),
    ),
    Case(
        "public-subnets",
        (aws("ec2/subnet:Subnet", mapPublicIpOnLaunch=False),),
        (aws("ec2/subnet:Subnet", mapPublicIpOnLaunch=True),),
    ),
    Case(
        "tls-listeners",
        (
            aws(LISTENER, protocol="HTTP", defaultActions=[{"type": "redirect"}]),
            aws(LISTENER, protocol="HTTPS", sslPolicy="ELBSecurityPolicy-TLS13-1-2-2021-06"),
        ),
        (
            aws(LISTENER, protocol="HTTP", defaultActions=[{"type": "forward"}]),
            aws(LISTENER, protocol="HTTPS", sslPolicy="ELBSecurityPolicy-2016-08"),
            aws(LISTENER, protocol="HTTPS"),
        ),
    ),
    Case(
        "wild-rights",
        (policy(), policy(Effect="Deny", Action="*"), policy("kms/key:Key", Action=["kms:*"])),
        (
            policy(Action="*"),
            policy(Action=["*:*"]),
            policy(Action="s3:*"),
            policy("sqs/queuePolicy:QueuePolicy", Action="*"),
            policy(NotAction="iam:*", Action=None),
        ),
    ),
    Case(
        "managed-rights",
        (aws("iam/rolePolicyAttachment:RolePolicyAttachment", policyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"),),
        (
            aws(
                "iam/rolePolicyAttachment:RolePolicyAttachment", policyArn="arn:aws:iam::aws:policy/AdministratorAccess"
            ),
        ),
    ),
    Case(
        "public-policies",
        (
            policy(Principal={"AWS": "arn:aws:iam::1:root"}),
            policy(Principal="*", Condition={"StringEquals": {}, "Bool": {}}),
        ),
        (policy(Principal="*"), policy(Principal={"AWS": ["*"]})),
    ),
    Case(
        "tls-only-buckets",
        (bucket_policy(),),
        (bucket_policy(Effect="Allow"), bucket_policy(Condition={}), bucket_policy(Principal={"AWS": "1"})),
        (BUCKET,),
    ),
    Case(
        "tags",
        (aws("ec2/vpc:Vpc", tags=TAGS), aws("ec2/route:Route"), aws(TEMPLATE, tags=TAGS, tagSpecifications=SPECIFIED)),
        (
            aws("ec2/vpc:Vpc"),
            aws("ec2/vpc:Vpc", tags={"project": "trellis"}),
            aws(TEMPLATE, tags=TAGS, tagSpecifications=SPECIFIED[:1]),
            aws(TEMPLATE, tags=TAGS, tagSpecifications=[SPECIFIED[0], {"resourceType": "volume"}]),
            manifest(CLASS, spec={}),
        ),
    ),
    Case(
        "encryption",
        (
            aws(DATABASE, storageEncrypted=True, kmsKeyId="key"),
            aws(CACHE, atRestEncryptionEnabled=True, transitEncryptionEnabled=True, kmsKeyId="key"),
            aws("sqs/queue:Queue", sqsManagedSseEnabled=True),
            aws("eks/cluster:Cluster", encryptionConfig={"provider": {"keyArn": "key"}}),
            disks("true"),
        ),
        (
            aws(DATABASE, storageEncrypted=False, kmsKeyId="key"),
            aws(DATABASE, storageEncrypted=True),
            aws(CACHE, atRestEncryptionEnabled=True, transitEncryptionEnabled=False, kmsKeyId="key"),
            aws("sqs/queue:Queue"),
            aws("eks/cluster:Cluster"),
            aws("cloudwatch/logGroup:LogGroup"),
            aws("ebs/volume:Volume", encrypted=True),
            manifest("storage.k8s.io/v1:StorageClass", parameters={"encrypted": "false"}),
            disks("false"),
            aws(TEMPLATE),
        ),
    ),
    Case(
        "protection",
        (
            aws(DATABASE, protect=True, **SAFE),
            aws(DATABASE, protect=True, deletionProtection=True, replicateSourceDb="one", skipFinalSnapshot=True),
            aws(CACHE, protect=True),
            aws("kms/key:Key", protect=True),
        ),
        (
            aws(DATABASE, **SAFE),
            aws(DATABASE, protect=True, **{**SAFE, "deletionProtection": False}),
            aws(DATABASE, protect=True, **{**SAFE, "skipFinalSnapshot": True}),
            aws(CACHE),
            aws("kms/key:Key"),
        ),
    ),
    Case(
        "backups",
        (
            aws(DATABASE, backupRetentionPeriod=7),
            aws(DATABASE, replicateSourceDb="one"),
            aws(CACHE, snapshotRetentionLimit=7),
        ),
        (aws(DATABASE, backupRetentionPeriod=6), aws(DATABASE), aws(CACHE, snapshotRetentionLimit=6)),
    ),
    Case(
        "log-retention",
        (aws("cloudwatch/logGroup:LogGroup", retentionInDays=30),),
        (aws("cloudwatch/logGroup:LogGroup"),),
    ),
    Case(
        "secrets",
        (
            aws(DATABASE, passwordWo=HIDDEN, passwordWoVersion=1),
            aws("secretsmanager/secretVersion:SecretVersion", secretStringWo=HIDDEN),
        ),
        (
            aws(DATABASE, password="abc"),
            aws(DATABASE, passwordWo="abc"),
            manifest("core/v1:ConfigMap", data={"file": "id: AKIA" + "A" * 16}),
            manifest("core/v1:ConfigMap", data={"file": "-----BEGIN RSA PRIVATE KEY-----"}),
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_what_keeps_a_rule_is_let_through_and_what_breaks_it_is_named(case):
    for right in case.keeps:
        assert said(case.rule, right, *case.beside) == []
    for wrong in case.breaks:
        assert said(case.rule, wrong, *case.beside), wrong.inputs


def test_a_bucket_is_encrypted_closed_and_versioned():
    assert said("buckets", *about_buckets()) == []
    for wrong in ({"encrypted": False}, {"closed": False}, {"versions": "Suspended"}):
        assert len(said("buckets", *about_buckets(**wrong))) == 1
    assert len(said("buckets", BUCKET)) == 3


def test_every_rule_has_its_cases():
    rooms = (rules_network, rules_rights, rules_data)
    rules = {one.name for room in rooms for one in vars(room).values() if isinstance(one, Rule)}
    assert {case.rule for case in CASES} | {"buckets"} == rules


@pytest.mark.parametrize("rule", [rules_data.protection, rules_data.backups], ids=lambda rule: rule.name)
def test_a_poc_is_made_anew_from_its_backups(rule):
    database = resource("one", f"aws:{DATABASE}")
    assert rule(graph(database))
    assert not rule(graph(database, stack="poc-eu-central-1"))


def test_a_secret_in_a_stacks_outputs_is_found():
    shown = graph(BUCKET)
    assert rules_data.secrets(type(shown)(shown.stack, shown.resources, {"database": {"password": "abc"}}))
    assert not rules_data.secrets(type(shown)(shown.stack, shown.resources, {"database": {"password": HIDDEN}}))
