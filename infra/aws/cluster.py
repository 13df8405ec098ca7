"""A region's Kubernetes: EKS's control plane, its add-ons, and the few nodes that make all the others."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra import bootstrap
from infra.aws import rights
from infra.aws.identity import role_of
from infra.aws.logs import log_group
from infra.aws.policies import assumed_by
from infra.component import Component
from infra.phases import Nodes
from infra.settings import Stack
from infra.versions import ADDONS, KUBERNETES, NODE_RELEASE

_LOGS: Final = ("api", "audit", "authenticator")
_NODE_POLICIES: Final = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEC2ContainerRegistryPullOnly",
    "AmazonSSMManagedInstanceCore",
)
_ROOT_DISK_GIB: Final = 20
# The network has to be there before a node can be ready; the others need a node to run on.
_BEFORE_NODES: Final = ("eks-pod-identity-agent", "kube-proxy", "vpc-cni")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterArgs:
    """`subnets`: private ones. `operators`: networks that the API server answers on its public address; none: it has
    no such address. `admins`: ARNs of roles that administer the cluster; who made it is not one by itself."""

    subnets: Sequence[pulumi.Input[str]]
    nodes: Nodes
    key: pulumi.Input[str]
    operators: Sequence[str]
    admins: Sequence[str]


class Cluster(Component):
    """`name`, `endpoint`, `authority` (base64), `group` (security group of nodes, pods and control plane), `node_role`
    and `node_profile` (name) of nodes that Karpenter makes."""

    def __init__(self, stack: Stack, args: ClusterArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("aws:Cluster", stack, opts=opts)
        self._args = args
        self.control_plane = self._control_plane()
        self.name = self.control_plane.name
        self.endpoint = self.control_plane.endpoint
        self.authority = self.control_plane.certificate_authority.apply(lambda authority: str(authority.data or ""))
        self.group = self.control_plane.vpc_config.apply(lambda config: str(config.cluster_security_group_id or ""))
        self._rights = {"vpc-cni": rights.network(), "aws-ebs-csi-driver": rights.volumes(args.key)}
        self.node_role, allowed = self._role("node", "ec2.amazonaws.com", _NODE_POLICIES)
        self.node_profile = self._nodes_join(allowed)
        self._administrators()
        before = [self._addon(name, []) for name in _BEFORE_NODES]
        group = self._bootstrap(before)
        for name in sorted(ADDONS.keys() - {*_BEFORE_NODES}):
            self._addon(name, [group])
        self.register_outputs({"name": self.name, "endpoint": self.endpoint})

    def _control_plane(self) -> aws.eks.Cluster:
        role, allowed = self._role("cluster", "eks.amazonaws.com", ("AmazonEKSClusterPolicy",))
        logs = log_group(self, "cluster", f"/aws/eks/{self.named('cluster')}/cluster", self._args.key)
        return aws.eks.Cluster(
            "cluster",
            name=self.named("cluster"),
            version=KUBERNETES,
            role_arn=role.arn,
            vpc_config=aws.eks.ClusterVpcConfigArgs(
                subnet_ids=list(self._args.subnets),
                endpoint_private_access=True,
                endpoint_public_access=bool(self._args.operators),
                public_access_cidrs=list(self._args.operators) or None,
            ),
            access_config=aws.eks.ClusterAccessConfigArgs(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=False
            ),
            encryption_config=aws.eks.ClusterEncryptionConfigArgs(
                provider=aws.eks.ClusterEncryptionConfigProviderArgs(key_arn=self._args.key), resources=["secrets"]
            ),
            enabled_cluster_log_types=list(_LOGS),
            bootstrap_self_managed_addons=False,
            deletion_protection=True,
            # Support beyond the standard fourteen months costs six times as much.
            upgrade_policy=aws.eks.ClusterUpgradePolicyArgs(support_type="STANDARD"),
            tags=self.tagged("cluster"),
            opts=self.child(protect=True, depends_on=[logs, *allowed]),
        )

    def _role(self, name: str, service: str, policies: Sequence[str]) -> tuple[aws.iam.Role, Sequence[pulumi.Resource]]:
        """The role, and what has to be there before it is of use and until it is not: what it may do."""
        role = aws.iam.Role(
            name,
            name=f"{self.named(name)}-{self.stack.region}",
            assume_role_policy=assumed_by(service),
            tags=self.tagged(name),
            opts=self.child(),
        )
        return role, [
            aws.iam.RolePolicyAttachment(
                f"{name}-{policy}", role=role.name, policy_arn=f"arn:aws:iam::aws:policy/{policy}", opts=self.child()
            )
            for policy in policies
        ]

    def _nodes_join(self, allowed: Sequence[pulumi.Resource]) -> pulumi.Output[str]:
        """The name of the profile that Karpenter starts nodes with; the bootstrap group's join by EKS's own entry."""
        profile = aws.iam.InstanceProfile(
            "node",
            name=f"{self.named('node')}-{self.stack.region}",
            role=self.node_role.name,
            tags=self.tagged("node"),
            opts=self.child(depends_on=allowed),
        )
        aws.eks.AccessEntry(
            "nodes",
            cluster_name=self.name,
            principal_arn=self.node_role.arn,
            type="EC2_LINUX",
            tags=self.tagged("nodes"),
            opts=self.child(),
        )
        return profile.name

    def _administrators(self) -> None:
        for number, principal in enumerate(self._args.admins):
            entry = aws.eks.AccessEntry(
                f"admin-{number}",
                cluster_name=self.name,
                principal_arn=principal,
                tags=self.tagged(f"admin-{number}"),
                opts=self.child(),
            )
            aws.eks.AccessPolicyAssociation(
                f"admin-{number}",
                cluster_name=self.name,
                principal_arn=entry.principal_arn,
                policy_arn="arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
                access_scope={"type": "cluster"},
                opts=self.child(),
            )

    def _bootstrap(self, before: Sequence[pulumi.Resource]) -> aws.eks.NodeGroup:
        nodes = self._args.nodes
        role, allowed = self._role("bootstrap", "ec2.amazonaws.com", _NODE_POLICIES)
        template = self._template()
        return aws.eks.NodeGroup(
            "bootstrap",
            cluster_name=self.name,
            node_role_arn=role.arn,
            subnet_ids=list(self._args.subnets),
            instance_types=[nodes.bootstrap],
            ami_type="AL2023_ARM_64_STANDARD",
            version=KUBERNETES,
            release_version=NODE_RELEASE,
            scaling_config={
                "desired_size": nodes.bootstrap_count,
                "min_size": nodes.bootstrap_count,
                "max_size": nodes.bootstrap_count + 1,
            },
            update_config={"max_unavailable": 1},
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            labels=bootstrap.LABELS,
            taints=[{"key": bootstrap.TAINT, "value": "true", "effect": "NO_SCHEDULE"}],
            node_repair_config={"enabled": True},
            tags=self.tagged("bootstrap"),
            opts=self.child(depends_on=[*before, *allowed]),
        )

    def _template(self) -> aws.ec2.LaunchTemplate:
        tags = self.tagged("bootstrap")
        return aws.ec2.LaunchTemplate(
            "bootstrap",
            update_default_version=True,
            # Pods do not reach the node's credentials: they are one hop further away.
            metadata_options={"http_tokens": "required", "http_endpoint": "enabled", "http_put_response_hop_limit": 1},
            block_device_mappings=[
                {
                    "device_name": "/dev/xvda",
                    "ebs": {
                        "volume_size": _ROOT_DISK_GIB,
                        "volume_type": "gp3",
                        # A string in the provider's schema. The account's own key for disks: the stack's would have
                        # to trust a role of Auto Scaling that a new account does not have yet.
                        "encrypted": "true",
                        "delete_on_termination": "true",
                    },
                }
            ],
            tag_specifications=[
                {"resource_type": kind, "tags": tags} for kind in ("instance", "volume", "network-interface")
            ],
            tags=tags,
            opts=self.child(),
        )

    def _addon(self, name: str, after: Sequence[pulumi.Resource]) -> aws.eks.Addon:
        right = self._rights.get(name)
        return aws.eks.Addon(
            name,
            cluster_name=self.name,
            addon_name=name,
            addon_version=ADDONS[name],
            configuration_values=_configuration(name),
            pod_identity_associations=[
                aws.eks.AddonPodIdentityAssociationArgs(
                    role_arn=role_of(self, right).arn, service_account=right.account.name
                )
            ]
            if right
            else None,
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="PRESERVE",
            tags=self.tagged(name),
            opts=self.child(depends_on=after),
        )


_TOLERATION: Final[Mapping[str, str]] = {"key": bootstrap.TAINT, "operator": "Exists", "effect": "NoSchedule"}


def _configuration(addon: str) -> str | None:
    values: Mapping[str, Mapping[str, object]] = {
        "coredns": {"tolerations": [_TOLERATION]},
        "metrics-server": {"tolerations": [_TOLERATION]},
        "aws-ebs-csi-driver": {"controller": {"tolerations": [_TOLERATION]}},
        # Nodes refuse what a NetworkPolicy does not allow; addresses are handed out sixteen at a time.
        "vpc-cni": {
            "enableNetworkPolicy": "true",
            "env": {"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1"},
        },
    }
    return json.dumps(values[addon], sort_keys=True) if addon in values else None
