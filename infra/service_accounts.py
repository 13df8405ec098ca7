"""The service accounts that act in AWS: the cell gives each its role, the workloads run as them.

Pure data, so that both sides name the same: EKS gives a role to a namespace and a name, and says nothing where no pod
has them. What is not here has no right in AWS at all.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """`right`: what its role is named after."""

    right: str
    namespace: str
    name: str


NETWORK: Final = ServiceAccount("network", "kube-system", "aws-node")
VOLUMES: Final = ServiceAccount("volumes", "kube-system", "ebs-csi-controller-sa")
KARPENTER: Final = ServiceAccount("karpenter", "kube-system", "karpenter")
BALANCER: Final = ServiceAccount("load-balancer", "kube-system", "aws-load-balancer-controller")
SECRETS: Final = ServiceAccount("external-secrets", "external-secrets", "external-secrets")
LOKI: Final = ServiceAccount("loki", "trellis-telemetry", "loki")
TEMPO: Final = ServiceAccount("tempo", "trellis-telemetry", "tempo")
SNAPSHOTS: Final = ServiceAccount("qdrant-snapshots", "trellis-data", "qdrant-snapshots")
