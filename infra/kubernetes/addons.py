"""Operators that others make, by Helm releases of pinned versions: what a new EKS cluster lacks.

EKS's own add-ons (network, DNS, volumes, metrics-server) are the infra stack's. On a cluster that the user has, none of
this is made: it has what its user gave it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pulumi
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.helm import v3 as helm
from pulumi_kubernetes.meta import v1 as meta

from infra import bootstrap
from infra.kubernetes.gpu import GPU_NODES, GPU_TAINT
from infra.kubernetes.operators_network import closed
from infra.kubernetes.part import Part
from infra.kubernetes.pods import labels
from infra.outputs import CellOutputs
from infra.service_accounts import BALANCER, KARPENTER, SECRETS
from infra.settings import Stack
from infra.versions import (
    CERT_MANAGER,
    DEVICE_PLUGIN,
    EXTERNAL_SECRETS,
    KARPENTER_CHART,
    KEDA,
    LOAD_BALANCER_CONTROLLER,
    Chart,
)

SYSTEM: Final = "kube-system"
KEDA_NAMESPACE: Final = "keda"
CERT_MANAGER_NAMESPACE: Final = "cert-manager"
_ASKED_AT: Final = {
    SECRETS.namespace: (10250, 8080),
    CERT_MANAGER_NAMESPACE: (10250, 9402),
    KEDA_NAMESPACE: (6443, 9443, 8080),
}
"""By namespace: where its webhooks and its API are, and its metrics."""
_TIMEOUT_S: Final = 600


class Addons(Part):
    """`karpenter` is there first: the others wait for nodes that it makes. `made`: all of them.

    Args:
        gpus: the phase has nodes with GPUs, and KEDA that scales what runs on them.
        mesh: our pods take mutual TLS only; KEDA asks Prometheus, so it is in the mesh as well.
    """

    def __init__(
        self, stack: Stack, cell: CellOutputs, opts: pulumi.ResourceOptions, *, gpus: bool, mesh: bool
    ) -> None:
        super().__init__("Addons", stack, opts)
        self._cell = cell
        self._meshed = frozenset({KEDA_NAMESPACE}) if mesh else frozenset[str]()
        self.karpenter = self._release("karpenter", KARPENTER_CHART, SYSTEM, _karpenter(cell))
        balancer = self._release("aws-load-balancer-controller", LOAD_BALANCER_CONTROLLER, SYSTEM, self._balancer())
        # Its webhook looks at every Service: who makes one waits until it answers.
        after = [balancer]
        self.secrets = self._release(
            "external-secrets",
            EXTERNAL_SECRETS,
            SECRETS.namespace,
            {"serviceAccount": {"name": SECRETS.name}, "resources": _small(), "installCRDs": True},
            after,
            own_namespace=True,
        )
        certificates = self._release(
            "cert-manager",
            CERT_MANAGER,
            CERT_MANAGER_NAMESPACE,
            {"crds": {"enabled": True}, "resources": _small()},
            after,
            own_namespace=True,
        )
        self.made: list[pulumi.Resource] = [self.karpenter, balancer, self.secrets, certificates]
        if gpus:
            self.made += [
                self._release("keda", KEDA, KEDA_NAMESPACE, _keda(), after, own_namespace=True),
                self._release("nvidia-device-plugin", DEVICE_PLUGIN, SYSTEM, _device_plugin(), after),
            ]
        self.register_outputs({})

    def _release(
        self,
        name: str,
        chart: Chart,
        namespace: str,
        values: Mapping[str, Any],
        after: Sequence[pulumi.Resource] = (),
        *,
        own_namespace: bool = False,
    ) -> helm.Release:
        waits = [*after, *([self._namespace(namespace)] if own_namespace else [])]
        return helm.Release(
            name,
            name=name,
            namespace=namespace,
            chart=chart.name,
            version=chart.version,
            repository_opts=helm.RepositoryOptsArgs(repo=chart.repository) if chart.repository else None,
            values=dict(values),
            # A release that does not come up is taken back, so that the next `up` begins from what was.
            atomic=True,
            timeout=_TIMEOUT_S,
            opts=self.child(depends_on=waits),
        )

    def _namespace(self, name: str) -> core.Namespace:
        modes = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
        mesh = {"istio.io/dataplane-mode": "ambient"} if name in self._meshed else {}
        namespace = core.Namespace(
            name,
            metadata=meta.ObjectMetaArgs(name=name, labels=labels(name, "namespace", **modes, **mesh)),
            opts=self.child(),
        )
        closed(self, namespace, name, _ASKED_AT[name])
        return namespace

    def _balancer(self) -> Mapping[str, Any]:
        return {
            "clusterName": self._cell.cluster_name,
            "region": self.stack.region,
            "vpcId": self._cell.vpc,
            "serviceAccount": {"name": BALANCER.name},
            "resources": _small(),
            # The load balancer is the infra stack's: nothing in the cluster asks for another one.
            "createIngressClassResource": False,
            "enableServiceMutatorWebhook": False,
        }


def _karpenter(cell: CellOutputs) -> Mapping[str, Any]:
    """On the nodes that it did not make itself."""
    return {
        "replicas": 2,
        "serviceAccount": {"name": KARPENTER.name},
        "settings": {
            "clusterName": cell.cluster_name,
            "clusterEndpoint": cell.cluster_endpoint,
            "interruptionQueue": cell.karpenter_queue,
        },
        "nodeSelector": {"kubernetes.io/os": "linux", **bootstrap.LABELS},
        "tolerations": [{"key": bootstrap.TAINT, "operator": "Exists", "effect": "NoSchedule"}],
        "controller": {"resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}}},
    }


def _keda() -> Mapping[str, Any]:
    """Prometheus asks its operator on 8080 (`infra/scrapes.py`)."""
    return {
        "prometheus": {"operator": {"enabled": True, "port": 8080}},
        "resources": {part: _small() for part in ("operator", "metricServer", "webhooks")},
    }


def _device_plugin() -> Mapping[str, Any]:
    return {
        "nodeSelector": GPU_NODES,
        "tolerations": [{"key": GPU_TAINT, "operator": "Exists", "effect": "NoSchedule"}],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    }


def _small() -> Mapping[str, Any]:
    return {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}}
