"""What the parts of telemetry are told: for which phase, where the stores are, whose secrets, how much room."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi

from infra.kubernetes.backends import Backends
from infra.kubernetes.mounted import read
from infra.kubernetes.process import Disk
from infra.phases import PHASES, Compute, Phase

_REPLICATED_FROM: Final = 10
"""API pods: from there on the loss of a node may not cost a minute of telemetry (docs/decisions/0043)."""
PRIVATE: Final = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10"
"""Where nodes and the API server are, on any cluster; who they are, the API server's certificate says."""
API_SERVER: Final = (443, 6443)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """`region`: as metrics are labelled with it. `buckets`: of logs (`LOKI`) and traces (`TEMPO`); none: they
    stay on volumes.

    `secret`: the Secret in the namespace of telemetry with what people are told with, and Grafana's password.
    `target_group`: what other regions' Prometheus ask this one's by; None where there is one region.
    """

    phase: Phase
    region: str
    backends: Backends
    buckets: Mapping[str, pulumi.Input[str]]
    secret: str
    target_group: pulumi.Input[str] | None = None

    @property
    def replicated(self) -> bool:
        """Whether two Prometheus ask the same, and telemetry goes on without one of its nodes."""
        return self.phase.fleet.least >= _REPLICATED_FROM

    @property
    def shared(self) -> bool:
        """Whether several processes share logs and traces in S3."""
        return self.replicated and bool(self.buckets)

    def disk(self, path: str, gib: int) -> Disk:
        return Disk(path=path, gib=gib, storage_class=self.backends.storage_class)

    def config(self, program: str) -> Mapping[str, str]:
        """The file of Loki or Tempo: without S3, that of the smallest phase which has a cluster."""
        wanted = self.phase if self.shared or not self.replicated else _smallest_cluster()
        return read(f"provisioning/{program}/{wanted.name.value}/{program}.yaml")


def _smallest_cluster() -> Phase:
    clusters: Sequence[Phase] = [phase for phase in PHASES.values() if phase.fleet.compute is not Compute.INSTANCE]
    return min(clusters, key=lambda phase: phase.budget_usd_month)
