"""The way in: on AWS the load balancer's target group, elsewhere an Ingress with TLS."""

from collections.abc import Sequence
from typing import Final

import pulumi
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta import v1 as meta
from pulumi_kubernetes.networking import v1 as networking

from infra.kubernetes.environment import PORT
from infra.kubernetes.part import Part
from infra.kubernetes.pods import APPS, labels, metadata
from infra.settings import Cluster, Stack

CERTIFICATE: Final = "trellis-tls"
_BODY: Final = "21m"
"""The app's own largest body (20 MiB, and what a form puts around it): larger ones do not get as far as a pod."""
_SILENT_S: Final = 120
_PER_SECOND: Final = 10
"""From one address, as the firewall before the load balancer on AWS: 3,000 in five minutes."""


class Bound(Part):
    """Registers the pods behind the Service `api` in the target group that the infra stack made."""

    def __init__(
        self,
        stack: Stack,
        target_group: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
        *,
        after: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("Bound", stack, opts, after=after)
        binding("api", metadata("api", APPS, labels("trellis-api", "ingress")), PORT, target_group, self.child())
        self.register_outputs({})


def binding(
    service: str, named: meta.ObjectMetaArgs, port: int, target_group: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> CustomResource:
    """The pods behind a Service of the same namespace register in a target group of AWS's.

    Who may reach the pods is said by the security groups of the infra stack.
    """
    return CustomResource(
        service,
        api_version="elbv2.k8s.aws/v1beta1",
        kind="TargetGroupBinding",
        metadata=named,
        spec={
            "serviceRef": {"name": service, "port": port},
            "targetGroupARN": target_group,
            "targetType": "ip",
        },
        opts=opts,
    )


class Way(Part):
    """An Ingress of the cluster's own controller. What its annotations say holds for ingress-nginx; the app itself has
    limits of bodies and of rates behind any."""

    def __init__(self, stack: Stack, opts: pulumi.ResourceOptions, *, after: Sequence[pulumi.Resource]) -> None:
        super().__init__("Way", stack, opts, after=after)
        given = stack.given
        assert isinstance(given, Cluster)
        issuer = {"cert-manager.io/cluster-issuer": given.issuer} if given.issuer else {}
        networking.Ingress(
            "api",
            metadata=metadata("api", APPS, labels("trellis-api", "ingress"), {**_NGINX, **issuer}),
            spec=networking.IngressSpecArgs(
                tls=[networking.IngressTLSArgs(hosts=[given.host], secret_name=CERTIFICATE)],
                rules=[networking.IngressRuleArgs(host=given.host, http=_to_api())],
            ),
            opts=self.child(),
        )
        self.register_outputs({})


def _to_api() -> networking.HTTPIngressRuleValueArgs:
    service = networking.IngressServiceBackendArgs(name="api", port=networking.ServiceBackendPortArgs(number=PORT))
    path = networking.HTTPIngressPathArgs(
        path="/", path_type="Prefix", backend=networking.IngressBackendArgs(service=service)
    )
    return networking.HTTPIngressRuleValueArgs(paths=[path])


_NGINX: Final = {
    # Not waited for: on a cluster without a controller it never gets an address.
    "pulumi.com/skipAwait": "true",
    "nginx.ingress.kubernetes.io/ssl-redirect": "true",
    "nginx.ingress.kubernetes.io/proxy-body-size": _BODY,
    "nginx.ingress.kubernetes.io/limit-rps": str(_PER_SECOND),
    "nginx.ingress.kubernetes.io/limit-burst-multiplier": "5",
    # Answers are streamed, with pauses.
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": str(_SILENT_S),
    "nginx.ingress.kubernetes.io/proxy-send-timeout": str(_SILENT_S),
}
