"""What AWS's resources cost as they stand there, used or not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from infra.costs.line import Line, Part, Reckoner
from infra.recording import Graph, Resource

Reckon = Callable[[Resource, Graph, Reckoner], Iterable[Line]]


def lines(graph: Graph, by: Reckoner) -> Iterable[Line]:
    for resource in graph.resources:
        reckon = _BY_TYPE.get(resource.type)
        if reckon is not None:
            yield from reckon(resource, graph, by)


def unpriced(graph: Graph) -> Sequence[str]:
    """Types of AWS's that nobody has said a price of, nor that they are free."""
    types = {resource.type for resource in graph.resources if resource.type.startswith("aws:")}
    return sorted(types - _BY_TYPE.keys() - FREE)


def _simple(part: Part, item: str) -> Reckon:
    def reckon(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
        yield by.line(part, f"{item} {resource.name}", item, 1)

    return reckon


def _disks(graph: Graph, template: Mapping[str, Any] | None) -> float:
    """GiB of the disks that a launch template gives each machine."""
    wanted = str((template or {}).get("id", ""))
    for resource in graph.of("aws:ec2/launchTemplate:LaunchTemplate"):
        if wanted == f"{resource.name}-id":
            return sum(
                float((disk.get("ebs") or {}).get("volumeSize", 0))
                for disk in resource.inputs.get("blockDeviceMappings", ())
            )
    return 0.0


def _instance(resource: Resource, graph: Graph, by: Reckoner) -> Iterable[Line]:
    kind = str(resource.inputs["instanceType"])
    yield by.line(Part.COMPUTE, f"{kind} {resource.name}", f"instance/{kind}", 1)
    yield by.line(Part.COMPUTE, "its own disk", "disk", _disks(graph, resource.inputs.get("launchTemplate")))


def _node_group(resource: Resource, graph: Graph, by: Reckoner) -> Iterable[Line]:
    kind = str(resource.inputs["instanceTypes"][0])
    many = float(resource.inputs["scalingConfig"]["desiredSize"])
    yield by.line(Part.COMPUTE, f"{many:g} {kind} {resource.name}", f"instance/{kind}", many)
    disks = many * _disks(graph, resource.inputs.get("launchTemplate"))
    yield by.line(Part.COMPUTE, f"disks of {resource.name}", "disk", disks)


def _volume(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    yield by.line(Part.OTHER, f"disk {resource.name}", "disk", float(resource.inputs["size"]))


def _endpoint(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    if resource.inputs.get("vpcEndpointType") == "Interface":
        zones = len(resource.inputs["subnetIds"])
        yield by.line(Part.NETWORK, f"endpoint {resource.name}, {zones} zones", "endpoint", zones)


def _balancer(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    yield by.line(Part.NETWORK, f"load balancer {resource.name}", "balancer", 1)
    if resource.inputs.get("internal"):
        # No user comes by it.
        return
    addresses = len(resource.inputs.get("subnets", ()))
    yield by.line(Part.NETWORK, f"addresses of {resource.name}", "address", addresses)
    hundreds = by.phase.load.concurrent_conversations / 100
    units = hundreds * by.prices.assumptions.balancer_units
    yield by.line(Part.NETWORK, f"capacity of {resource.name}", "balancer-unit", units, estimate=True)


def _database(resource: Resource, graph: Graph, by: Reckoner) -> Iterable[Line]:
    kind = str(resource.inputs["instanceClass"])
    copies = 2 if resource.inputs.get("multiAz") else 1
    yield by.line(Part.DATABASE, f"{copies} {kind} {resource.name}", f"rds/{kind}", copies)
    disk = _allocated(resource, graph)
    yield by.line(Part.DATABASE, f"disk of {resource.name}", "rds-disk", copies * disk)
    if resource.inputs.get("backupRetentionPeriod"):
        kept = disk * by.prices.assumptions.backup_share
        yield by.line(Part.DATABASE, f"backups of {resource.name}", "rds-backup", kept, estimate=True)
    yield from _own_secret(resource, by)


def _allocated(resource: Resource, graph: Graph) -> float:
    """GiB; a replica has as much as its source."""
    sizes = [resource, *graph.of("aws:rds/instance:Instance")]
    return next(float(one.inputs["allocatedStorage"]) for one in sizes if one.inputs.get("allocatedStorage"))


def _own_secret(resource: Resource, by: Reckoner) -> Iterable[Line]:
    if resource.inputs.get("manageMasterUserPassword"):
        yield by.line(Part.OTHER, f"secret of {resource.name}", "secret", 1)


def _aurora(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    assumed = by.prices.assumptions
    stored = by.of_leads(assumed.lead.stored_mb) * assumed.months_kept
    asked = by.phase.load.leads_per_month * assumed.lead.database_requests / 1e6
    yield by.line(Part.DATABASE, f"disk of {resource.name}", "aurora-disk", stored, estimate=True)
    yield by.line(Part.DATABASE, f"requests of {resource.name}", "aurora-io", asked, estimate=True)
    if resource.inputs.get("globalClusterIdentifier"):
        what = f"writes that {resource.name} sends on or takes"
        yield by.line(Part.DATABASE, what, "aurora-replicated-io", asked / 2, estimate=True)
    yield from _own_secret(resource, by)


def _aurora_instance(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    kind = str(resource.inputs["instanceClass"])
    yield by.line(Part.DATABASE, f"{kind} {resource.name}", f"aurora/{kind}", 1)


def _cache(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    inputs, kind = resource.inputs, str(resource.inputs["nodeType"])
    shards, replicas = inputs.get("numNodeGroups"), inputs.get("replicasPerNodeGroup") or 0
    many = float(shards) * (1 + float(replicas)) if shards else float(inputs.get("numCacheClusters") or 1)
    yield by.line(Part.CACHE, f"{many:g} {kind} {resource.name}", f"cache/{kind}", many)


def _firewall(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    rules = len(resource.inputs.get("rules", ()))
    yield by.line(Part.NETWORK, f"firewall {resource.name}", "firewall", 1)
    yield by.line(Part.NETWORK, f"{rules} rules of {resource.name}", "firewall-rule", rules)


def _images(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    gb = by.prices.assumptions.image_gb
    yield by.line(Part.OTHER, f"images of {resource.name}", "image-storage", gb, estimate=True)


_TELEMETRY: Final = ("logs", "loki", "tempo")


def _bucket(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    assumed = by.prices.assumptions
    part = Part.TELEMETRY if resource.name in _TELEMETRY else Part.OTHER
    mb = assumed.lead.logs_mb if part is Part.TELEMETRY else assumed.lead.stored_mb
    stored = by.of_leads(mb) * assumed.months_kept
    yield by.line(part, f"objects of {resource.name}", "object-storage", stored, estimate=True)


def _secrets(resource: Resource, _graph: Graph, by: Reckoner) -> Iterable[Line]:
    """Those that a template of CloudFormation makes."""
    made = str(resource.inputs["templateBody"]).count('"AWS::SecretsManager::Secret"')
    yield by.line(Part.OTHER, f"{made} secrets of {resource.name}", "secret", made)


_BY_TYPE: Final[Mapping[str, Reckon]] = {
    "aws:cloudformation/stack:Stack": _secrets,
    "aws:cloudwatch/metricAlarm:MetricAlarm": _simple(Part.OTHER, "alarm"),
    "aws:ebs/volume:Volume": _volume,
    "aws:ec2/eip:Eip": _simple(Part.NETWORK, "address"),
    "aws:ec2/instance:Instance": _instance,
    "aws:ec2/natGateway:NatGateway": _simple(Part.NETWORK, "nat"),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:ecr/repository:Repository": _images,
    "aws:eks/cluster:Cluster": _simple(Part.COMPUTE, "cluster"),
    "aws:eks/nodeGroup:NodeGroup": _node_group,
    "aws:elasticache/replicationGroup:ReplicationGroup": _cache,
    "aws:globalaccelerator/accelerator:Accelerator": _simple(Part.NETWORK, "accelerator"),
    "aws:kms/key:Key": _simple(Part.OTHER, "key"),
    "aws:kms/replicaKey:ReplicaKey": _simple(Part.OTHER, "key"),
    "aws:lb/loadBalancer:LoadBalancer": _balancer,
    "aws:rds/cluster:Cluster": _aurora,
    "aws:rds/clusterInstance:ClusterInstance": _aurora_instance,
    "aws:rds/instance:Instance": _database,
    "aws:route53/healthCheck:HealthCheck": _simple(Part.NETWORK, "health-check"),
    "aws:route53/zone:Zone": _simple(Part.NETWORK, "hosted-zone"),
    "aws:s3/bucket:Bucket": _bucket,
    "aws:secretsmanager/secret:Secret": _simple(Part.OTHER, "secret"),
    "aws:wafv2/webAcl:WebAcl": _firewall,
}
FREE: Final = frozenset(
    {
        "aws:acm/certificate:Certificate",
        "aws:acm/certificateValidation:CertificateValidation",
        "aws:backup/plan:Plan",
        "aws:backup/selection:Selection",
        "aws:backup/vault:Vault",
        "aws:backup/vaultLockConfiguration:VaultLockConfiguration",
        "aws:budgets/budget:Budget",
        "aws:cloudtrail/trail:Trail",
        "aws:cloudwatch/eventRule:EventRule",
        "aws:cloudwatch/eventTarget:EventTarget",
        "aws:cloudwatch/logGroup:LogGroup",
        "aws:cloudwatch/logResourcePolicy:LogResourcePolicy",
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "aws:ec2/eipAssociation:EipAssociation",
        "aws:ec2/flowLog:FlowLog",
        "aws:ec2/internetGateway:InternetGateway",
        "aws:ec2/launchTemplate:LaunchTemplate",
        "aws:ec2/networkInterface:NetworkInterface",
        "aws:ec2/route:Route",
        "aws:ec2/routeTable:RouteTable",
        "aws:ec2/routeTableAssociation:RouteTableAssociation",
        "aws:ec2/securityGroup:SecurityGroup",
        "aws:ec2/subnet:Subnet",
        "aws:ec2/volumeAttachment:VolumeAttachment",
        "aws:ec2/vpc:Vpc",
        "aws:ecr/lifecyclePolicy:LifecyclePolicy",
        "aws:eks/accessEntry:AccessEntry",
        "aws:eks/accessPolicyAssociation:AccessPolicyAssociation",
        "aws:eks/addon:Addon",
        "aws:eks/podIdentityAssociation:PodIdentityAssociation",
        "aws:elasticache/parameterGroup:ParameterGroup",
        "aws:elasticache/subnetGroup:SubnetGroup",
        "aws:elasticache/user:User",
        "aws:elasticache/userGroup:UserGroup",
        "aws:globalaccelerator/endpointGroup:EndpointGroup",
        "aws:globalaccelerator/listener:Listener",
        "aws:iam/instanceProfile:InstanceProfile",
        "aws:iam/role:Role",
        "aws:iam/rolePolicy:RolePolicy",
        "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
        "aws:kms/alias:Alias",
        "aws:lb/listener:Listener",
        "aws:lb/targetGroup:TargetGroup",
        "aws:rds/clusterParameterGroup:ClusterParameterGroup",
        "aws:rds/globalCluster:GlobalCluster",
        "aws:rds/parameterGroup:ParameterGroup",
        "aws:rds/subnetGroup:SubnetGroup",
        "aws:route53/record:Record",
        "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
        "aws:s3/bucketOwnershipControls:BucketOwnershipControls",
        "aws:s3/bucketPolicy:BucketPolicy",
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
        "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        "aws:s3/bucketVersioning:BucketVersioning",
        "aws:secretsmanager/secretVersion:SecretVersion",
        "aws:sns/topic:Topic",
        "aws:sns/topicPolicy:TopicPolicy",
        "aws:sns/topicSubscription:TopicSubscription",
        "aws:sqs/queue:Queue",
        "aws:sqs/queuePolicy:QueuePolicy",
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "aws:wafv2/webAclAssociation:WebAclAssociation",
        "aws:wafv2/webAclLoggingConfiguration:WebAclLoggingConfiguration",
    }
)
"""No charge of their own: what passes through them is reckoned by use."""
