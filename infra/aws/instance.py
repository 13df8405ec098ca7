"""The PoC's machine: what is on it may be lost at any time. Its data lies on a volume of its own and, as it is written,
in a bucket; its address stays."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from infra.aws.network import users_come_in
from infra.aws.policies import Statement, assumed_by, document
from infra.aws.rights import objects
from infra.component import Component
from infra.settings import Stack
from infra.versions import MACHINE_IMAGE

REPLICAS: Final = "litestream"
"""The folder of the bucket that Litestream writes to."""
_ROOT_GIB: Final = 12
_DATA_GIB: Final = 20
_REBOOT_MINUTES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceArgs:
    """`user_data`: made from the data volume's id. `backups`: ARN of the bucket. `secret`: ARN of the app's settings.
    `key`: ARN of the key of all of them."""

    vpc: pulumi.Input[str]
    subnet: pulumi.Input[str]
    zone: str
    kind: str
    key: pulumi.Input[str]
    backups: pulumi.Input[str]
    secret: pulumi.Input[str]


class Instance(Component):
    """`volume`: id of the data volume. `address`: the public one, which a replaced machine keeps."""

    def __init__(self, stack: Stack, args: InstanceArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Instance", stack, opts=opts)
        self._args = args
        self._data = aws.ebs.Volume(
            "data",
            availability_zone=args.zone,
            size=_DATA_GIB,
            type="gp3",
            encrypted=True,
            kms_key_id=args.key,
            tags=self.tagged("data"),
            opts=self.child(),
        )
        self.volume = self._data.id
        self._interface = aws.ec2.NetworkInterface(
            "way",
            subnet_id=args.subnet,
            security_groups=[self._group().id],
            description="The machine's, whichever it is",
            tags=self.tagged("way"),
            opts=self.child(),
        )
        self._address = aws.ec2.Eip(
            "way", domain="vpc", network_interface=self._interface.id, tags=self.tagged("way"), opts=self.child()
        )
        self.address = self._address.public_ip
        self._profile = self._rights()

    def start(self, user_data: pulumi.Input[str]) -> None:
        """Makes the machine. Another user data (a release, a setting, one of our files) makes it anew: the old one is
        stopped first, so that only one ever has the volume."""
        template = self._template(user_data)
        machine = aws.ec2.Instance(
            "machine",
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            instance_type=self._args.kind,
            availability_zone=self._args.zone,
            primary_network_interface={"network_interface_id": self._interface.id},
            # A host that fails is left for another one, with the same disks and addresses.
            maintenance_options={"auto_recovery": "default"},
            tags=self.tagged("machine"),
            volume_tags=None,
            opts=self.child(delete_before_replace=True, depends_on=[self._address]),
        )
        aws.ec2.VolumeAttachment(
            "data",
            device_name="/dev/sdf",
            instance_id=machine.id,
            volume_id=self._data.id,
            # What runs ends, and the file system is left clean.
            stop_instance_before_detaching=True,
            opts=self.child(delete_before_replace=True),
        )
        self._reboot(machine)
        self.register_outputs({"address": self.address})

    def _template(self, user_data: pulumi.Input[str]) -> aws.ec2.LaunchTemplate:
        tags = self.tagged("machine")
        return aws.ec2.LaunchTemplate(
            "machine",
            name=self.named("machine"),
            image_id=f"resolve:ssm:{MACHINE_IMAGE}",
            instance_type=self._args.kind,
            iam_instance_profile={"name": self._profile.name},
            user_data=pulumi.Output.from_input(user_data).apply(_base64),
            metadata_options={"http_tokens": "required", "http_endpoint": "enabled", "http_put_response_hop_limit": 1},
            # Beyond its baseline a burstable machine slows down instead of costing more.
            credit_specification={"cpu_credits": "standard"},
            block_device_mappings=[self._root()],
            tag_specifications=[{"resource_type": kind, "tags": tags} for kind in ("instance", "volume")],
            tags=tags,
            opts=self.child(),
        )

    def _root(self) -> Any:
        return {
            "device_name": "/dev/xvda",
            "ebs": {
                "volume_size": _ROOT_GIB,
                "volume_type": "gp3",
                # A string in the provider's schema.
                "encrypted": "true",
                "kms_key_id": self._args.key,
                "delete_on_termination": "true",
            },
        }

    def _group(self) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            "machine",
            vpc_id=self._args.vpc,
            description="Users to the machine; no SSH: people come by Systems Manager",
            tags=self.tagged("machine"),
            opts=self.child(),
        )
        users_come_in(self, group, plain="Leads to 443, and proves the domain")
        aws.vpc.SecurityGroupEgressRule(
            "https",
            security_group_id=group.id,
            cidr_ipv4="0.0.0.0/0",
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            description="Models, packages, AWS, the certificate's maker",
            tags=self.tagged("https"),
            opts=self.child(),
        )
        return group

    def _rights(self) -> aws.iam.InstanceProfile:
        """To stream the database and bring it back, to read its own settings, and to be reached by Systems Manager."""
        role = aws.iam.Role(
            "machine",
            name=f"{self.named('machine')}-{self.stack.region}",
            assume_role_policy=assumed_by("ec2.amazonaws.com"),
            tags=self.tagged("machine"),
            opts=self.child(),
        )
        aws.iam.RolePolicyAttachment(
            "machine",
            role=role.name,
            policy_arn="arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
            opts=self.child(),
        )
        aws.iam.RolePolicy("machine", role=role.id, policy=document(*self._statements()), opts=self.child())
        return aws.iam.InstanceProfile(
            "machine",
            name=f"{self.named('machine')}-{self.stack.region}",
            role=role.name,
            tags=self.tagged("machine"),
            opts=self.child(),
        )

    def _statements(self) -> Sequence[Statement]:
        args = self._args
        settings = Statement(actions=["secretsmanager:GetSecretValue"], resources=[args.secret])
        return [*objects(args.backups, REPLICAS, args.key, deletes=True), settings]

    def _reboot(self, machine: aws.ec2.Instance) -> None:
        """A system that hangs is started again; what hangs is not able to tell anybody."""
        aws.cloudwatch.MetricAlarm(
            "hangs",
            name=self.named("hangs"),
            alarm_description="The machine does not answer AWS's own check: it is restarted.",
            namespace="AWS/EC2",
            metric_name="StatusCheckFailed_Instance",
            dimensions=_of(machine),
            statistic="Maximum",
            comparison_operator="GreaterThanThreshold",
            threshold=0,
            period=60,
            evaluation_periods=_REBOOT_MINUTES,
            alarm_actions=[f"arn:aws:automate:{self.stack.region}:ec2:reboot"],
            tags=self.tagged("hangs"),
            opts=self.child(),
        )


def _of(machine: aws.ec2.Instance) -> Mapping[str, pulumi.Input[str]]:
    return {"InstanceId": machine.id}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
