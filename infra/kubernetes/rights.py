"""What a pod may ask of the API server: reading only, cluster-wide, and by name of what is read."""

from collections.abc import Sequence

from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.rbac import v1 as rbac

from infra.kubernetes.part import Part
from infra.kubernetes.pods import TELEMETRY, labels
from infra.naming import PREFIX

Reads = tuple[str, Sequence[str], Sequence[str]]
"""API group, resources, verbs."""
SEEN = ("get", "list", "watch")
LISTED = ("list", "watch")


def reads(part: Part, name: str, rights: Sequence[Reads], namespace: str = TELEMETRY) -> rbac.ClusterRoleBinding:
    """Gives them to the service account of that name."""
    about = meta.ObjectMetaArgs(name=f"{PREFIX}-{name}", labels=labels(name, "rights"))
    role = rbac.ClusterRole(
        name,
        metadata=about,
        rules=[
            rbac.PolicyRuleArgs(api_groups=[group], resources=list(resources), verbs=list(verbs))
            for group, resources, verbs in rights
        ],
        opts=part.child(),
    )
    return rbac.ClusterRoleBinding(
        name,
        metadata=about,
        role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=f"{PREFIX}-{name}"),
        subjects=[rbac.SubjectArgs(kind="ServiceAccount", name=name, namespace=namespace)],
        opts=part.child(depends_on=[role]),
    )
