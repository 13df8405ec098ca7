"""Every version that is not a Python library's: Kubernetes, add-ons, images, charts.

What could not be looked up is None and says so: EKS then takes its own default, an image is refused by the policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

KUBERNETES: Final = "1.35"
"""EKS's; one behind what the tests' control plane runs."""

NODE_RELEASE: Final = "1.35.6-20260714"
"""Of EKS's image of Amazon Linux 2023 (the change log of awslabs/amazon-eks-ami)."""
NODE_IMAGE: Final = "al2023@v20260714"
"""The same release, as Karpenter's `amiSelectorTerms` name it."""

ADDONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vpc-cni": "v1.21.1-eksbuild.8",
        "kube-proxy": "v1.35.3-eksbuild.5",
        "eks-pod-identity-agent": "v1.3.10-eksbuild.3",
        "coredns": "v1.14.2-eksbuild.4",
        "aws-ebs-csi-driver": "v1.59.0-eksbuild.1",
        "metrics-server": "v0.8.1-eksbuild.6",
    }
)
"""Builds of EKS's add-ons. AWS lists them to accounts only (`aws eks describe-addon-versions --kubernetes-version
1.35`): these are what public configurations of 1.35 clusters run, seen together in July 2026, and may be superseded."""

POSTGRES: Final = "16"
"""RDS takes its newest minor version of it, and moves on to newer ones in the maintenance window."""
AURORA: Final = "16.6"
VALKEY: Final = "8.0"


@dataclass(frozen=True, slots=True)
class Image:
    """A container image. `digest` is None where it could not be looked up: the tag alone then says what runs."""

    name: str
    tag: str
    digest: str | None

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


@dataclass(frozen=True, slots=True)
class Chart:
    """A Helm chart by its repository (an `oci://` one has the chart's name in it)."""

    repository: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Program:
    """A release's archive for Linux on ARM, and the SHA-256 of it."""

    url: str
    sha256: str


# Of the PoC's machine. Each sum is one that several public repositories pin for that very file, read on 2026-11-21; the
# projects publish it beside the archive (checksums.txt).
LITESTREAM: Final = Program(
    "https://github.com/benbjohnson/litestream/releases/download/v0.5.17/litestream-0.5.17-linux-arm64.tar.gz",
    "f8ca4a050095c1efbda2c4365172e61bf9d955ea0d9ac42f448b52e51819baa5",
)
CADDY: Final = Program(
    "https://github.com/caddyserver/caddy/releases/download/v2.10.2/caddy_2.10.2_linux_arm64.tar.gz",
    "501e955fa634c5aab63247458c3ac655cfdd6cbf1e0436528f41248451c190ac",
)
MACHINE_IMAGE: Final = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-6.1-arm64"
"""AWS's parameter of the newest Amazon Linux 2023: it publishes none by release. A machine keeps the one that it was
made of, with that release's packages; a machine that is replaced gets the newest."""


# No registry could be asked. A digest is one that public repositories pin for that very tag, read there on 2026-11-21;
# renew it together with the tag (`docker buildx imagetools inspect <name>:<tag>`).
PGBOUNCER: Final = Image(
    "docker.io/edoburu/pgbouncer",
    "v1.25.2-p0",
    "sha256:7d7a27d9e90985cab5cf42256f5c13a3120baa4b055b69df37beb272b89b2340",
)
# Read in one repository only.
PGBOUNCER_EXPORTER: Final = Image(
    "quay.io/prometheuscommunity/pgbouncer-exporter",
    "v0.12.1",
    "sha256:30f31b6c2efdad3647f8182cc7c1a3a19e42bae5d17387694989f969371c230d",
)
# The client wants 1.20 or newer; no repository that could be read pins it by digest yet.
QDRANT: Final = Image("docker.io/qdrant/qdrant", "v1.20.0-unprivileged", None)
POSTGRES_IMAGE: Final = Image(
    "docker.io/library/postgres",
    "16-bookworm",
    "sha256:efedf3595f1d6f415c08568ba171029bf54052e754cc9f030e3f2412b21f3d67",
)
VALKEY_IMAGE: Final = Image(
    "docker.io/valkey/valkey", "8.1", "sha256:640c5e62cea04b6d6f2084232651d0cc70362d31f4f805e7be94dbed6855e8f2"
)
AWS_CLI: Final = Image(
    "public.ecr.aws/aws-cli/aws-cli",
    "2.31.30",
    "sha256:6c9314d8dd18bcfd11c509e00ea39016c4fb978e42e86df1e4dfd17038b10b78",
)

# Of the mesh that `mtls` puts between our services: base, istiod, cni, ztunnel, always of one version.
ISTIO_CHARTS: Final = "https://istio-release.storage.googleapis.com/charts"
ISTIO: Final = "1.29.2"

# Of these, two or more public repositories that have nothing to do with each other pin the same digest for the tag.
PROMETHEUS: Final = Image(
    "quay.io/prometheus/prometheus",
    "v3.13.1",
    "sha256:3c42b892cf723fa54d2f262c37a0e1f80aa8c8ddb1da7b9b0df9455a35a7f893",
)
# A third repository pins another digest for the tag, perhaps that of one architecture.
ALERTMANAGER: Final = Image(
    "quay.io/prometheus/alertmanager",
    "v0.33.1",
    "sha256:9e082985f56f4c8c9f724e18f2288c6708f472e56a5286b8863d080434ea065d",
)
# Four repositories agree on it; two pin another digest for the tag, perhaps that of one architecture.
GRAFANA: Final = Image(
    "docker.io/grafana/grafana", "13.1.0", "sha256:121a7a9ece6dc10b969f1f96eed64b4f07dfac0d0b8abc070f7cb83bbde86f63"
)
LOKI: Final = Image(
    "docker.io/grafana/loki", "3.7.3", "sha256:70b9f699fc9bb868b62f1cfd4f787dfa50242f1fd92e6089787d5d7daea75fe8"
)
TEMPO: Final = Image(
    "docker.io/grafana/tempo", "3.0.2", "sha256:cda87c212d8c584dc0b89e337e7ed648a5100feb657e5d528480ee4fa03dbbe3"
)
COLLECTOR: Final = Image(
    "docker.io/otel/opentelemetry-collector-contrib",
    "0.160.0",
    "sha256:799dc6cf12c96192af37b5bdba804da8c10b3bc563b43cb90c3f3c58d9572ad6",
)
NODE_EXPORTER: Final = Image(
    "quay.io/prometheus/node-exporter",
    "v1.11.1",
    "sha256:0f422f62c15f154af8d8572b23d623aebfb10cec73a5c654d18f911f3f9df241",
)
KUBE_STATE_METRICS: Final = Image(
    "registry.k8s.io/kube-state-metrics/kube-state-metrics",
    "v2.19.1",
    "sha256:85108987d044b18a098126732f98602df408888c0f7d456241f5abefb9744bc1",
)
POSTGRES_EXPORTER: Final = Image(
    "quay.io/prometheuscommunity/postgres-exporter",
    "v0.19.1",
    "sha256:e96064f876226d94bb6ce48a4c4b3dd76edba91168ec1ab024e5c4b959310b0f",
)
REDIS_EXPORTER: Final = Image(
    "docker.io/oliver006/redis_exporter",
    "v1.84.0",
    "sha256:7ef8e9c26638158fa4e7ad60df8c7e53d1919986753d6c1d2d1876b6ec38d87b",
)
DCGM_EXPORTER: Final = Image(
    "nvcr.io/nvidia/k8s/dcgm-exporter",
    "4.5.3-4.8.2-distroless",
    "sha256:60d3b00ac80b4ae77f94dae2f943685605585ad9e92fdccda3154d009ae317cc",
)
VLLM: Final = Image(
    "docker.io/vllm/vllm-openai", "v0.23.0", "sha256:6d8429e38e3747723ca07ee1b17972e09bb9c51c4032b266f24fb1cc3b22ed8f"
)

MODEL_REVISIONS: Final[Mapping[str, str]] = MappingProxyType(
    {"Qwen/Qwen2.5-7B-Instruct-AWQ": "b25037543e9394b818fdfca67ab2a00ecc7dd641"}
)
"""Commits of models on their hub, read in one public repository that pins it; without one, the newest is taken."""

# Operators, in versions that public repositories install in 2026. A chart's images are by tag: their digests were not
# looked up.
KARPENTER_CHART: Final = Chart("", "oci://public.ecr.aws/karpenter/karpenter", "1.14.1")
EXTERNAL_SECRETS: Final = Chart("https://charts.external-secrets.io", "external-secrets", "2.9.0")
CERT_MANAGER: Final = Chart("https://charts.jetstack.io", "cert-manager", "v1.20.2")
KEDA: Final = Chart("https://kedacore.github.io/charts", "keda", "2.20.1")
LOAD_BALANCER_CONTROLLER: Final = Chart("https://aws.github.io/eks-charts", "aws-load-balancer-controller", "3.5.0")
DEVICE_PLUGIN: Final = Chart("https://nvidia.github.io/k8s-device-plugin", "nvidia-device-plugin", "0.19.3")
