"""Mutual TLS between our services, by the setting `mtls`: Istio's ambient mesh, below the programs.

None of them knows of it: the node's proxy gives each pod the certificate of its service account, renews it, and takes
nothing from a pod that has none. See docs/decisions/0045 for what else was looked at.
"""

from collections.abc import Sequence
from typing import Any, Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core import v1 as core
from pulumi_kubernetes.helm import v3 as helm
from pulumi_kubernetes.meta import v1 as meta

from infra.kubernetes.environment import PORT
from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, labels, metadata, selected
from infra.settings import Stack
from infra.versions import ISTIO, ISTIO_CHARTS

SYSTEM: Final = "istio-system"
# In the order in which each needs the one before; ztunnel carries the traffic.
_CHARTS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("istio-base", "base", {}),
    ("istiod", "istiod", {"profile": "ambient"}),
    ("istio-cni", "cni", {"profile": "ambient"}),
    ("ztunnel", "ztunnel", {}),
)


class Mesh(Part):
    """The mesh, and the rule that nothing of ours is reached in any other way."""

    def __init__(
        self,
        stack: Stack,
        namespaces: Sequence[str],
        opts: pulumi.ResourceOptions,
        *,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("Mesh", stack, opts, after=after)
        last: pulumi.Resource = core.Namespace(
            SYSTEM,
            # Its node agents set the network up: nothing less than privileged lets them.
            metadata=meta.ObjectMetaArgs(
                name=SYSTEM,
                labels=labels(SYSTEM, "mesh", **{"pod-security.kubernetes.io/enforce": "privileged"}),
            ),
            opts=self.child(),
        )
        for name, chart, values in _CHARTS:
            last = helm.Release(
                name,
                name=name,
                namespace=SYSTEM,
                chart=chart,
                version=ISTIO,
                repository_opts=helm.RepositoryOptsArgs(repo=ISTIO_CHARTS),
                values=values,
                atomic=True,
                timeout=600,
                opts=self.child(depends_on=[last]),
            )
        for namespace in namespaces:
            self._strict(namespace, last)
        self._way_in(last)
        self.register_outputs({})

    def _strict(self, namespace: str, after: pulumi.Resource) -> None:
        CustomResource(
            f"{namespace}-strict",
            api_version="security.istio.io/v1",
            kind="PeerAuthentication",
            metadata=metadata("strict", namespace, labels("strict", "mesh")),
            spec={"mtls": {"mode": "STRICT"}},
            opts=self.child(depends_on=[after]),
        )

    def _way_in(self, after: pulumi.Resource) -> None:
        """The load balancer, or the ingress controller, is no part of the mesh."""
        CustomResource(
            "way-in",
            api_version="security.istio.io/v1",
            kind="PeerAuthentication",
            metadata=metadata("way-in", APPS, labels("way-in", "mesh")),
            spec={
                "selector": {"matchLabels": selected("trellis-api")},
                "mtls": {"mode": "STRICT"},
                "portLevelMtls": {str(PORT): {"mode": "PERMISSIVE"}},
            },
            opts=self.child(depends_on=[after]),
        )
