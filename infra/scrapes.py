"""What Prometheus asks in each phase: one job for each kind of process, under the name that rules and panels use.

Pure data. The programs of `infra/kubernetes` make the targets, those of `provisioning/` scrape them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.phases import Cache, Compute, Phase, Relational, Vectors

METRICS_ZONE: Final = "regions.trellis.internal"
"""Of names that only the networks of a phase's regions know."""


def metrics_host(region: str) -> str:
    """Where a region's Prometheus is, as the other regions see it."""
    return f"prometheus.{region}.{METRICS_ZONE}"


@dataclass(frozen=True, slots=True)
class Scrape:
    """One job. `used` tells whether a phase has such processes."""

    job: str
    what: str
    port: int
    used: Callable[[Phase], bool]
    path: str = "/metrics"


def _always(_phase: Phase) -> bool:
    return True


def _cluster(phase: Phase) -> bool:
    return phase.fleet.compute is not Compute.INSTANCE


def _redis(phase: Phase) -> bool:
    return phase.stores.cache is not Cache.IN_PROCESS


def _qdrant(phase: Phase) -> bool:
    return phase.stores.vectors is not Vectors.EMBEDDED


def _postgres(phase: Phase) -> bool:
    return phase.server is not None


def _pooled(phase: Phase) -> bool:
    return phase.server is not None and phase.server.poolers > 0


def _sqlite(phase: Phase) -> bool:
    return phase.stores.relational is Relational.SQLITE


def _gpus(phase: Phase) -> bool:
    return phase.fleet.gpu_nodes


_ALL: Final = (
    Scrape("trellis-api", "the app's API processes", 8321, _always),
    Scrape("trellis-worker", "the app's workers, where they are processes of their own", 8321, _cluster),
    Scrape("prometheus", "Prometheus itself", 9090, _always),
    Scrape("alertmanager", "Alertmanager", 9093, _always),
    Scrape("node", "node_exporter", 9100, _always),
    Scrape("litestream", "Litestream, which streams SQLite to S3", 9186, _sqlite),
    Scrape("otel-collector", "the OpenTelemetry collector's own figures", 8888, _cluster),
    Scrape("grafana", "Grafana", 3000, _cluster),
    Scrape("loki", "Loki", 3100, _cluster),
    Scrape("tempo", "Tempo", 3200, _cluster),
    Scrape("postgres", "postgres_exporter, one for each server", 9187, _postgres),
    Scrape("pgbouncer", "pgbouncer_exporter", 9127, _pooled),
    Scrape("redis", "redis_exporter, one for each node", 9121, _redis),
    Scrape("qdrant", "Qdrant", 6333, _qdrant),
    Scrape("vllm", "vLLM", 8000, _gpus),
    Scrape("dcgm", "dcgm-exporter, one for each GPU node", 9400, _gpus),
    Scrape("kube-state-metrics", "kube-state-metrics", 8080, _cluster),
    Scrape("kubelet", "each node's kubelet: volumes, pods", 10250, _cluster),
    Scrape("cadvisor", "each node's containers, by its kubelet", 10250, _cluster, "/metrics/cadvisor"),
    Scrape("karpenter", "Karpenter", 8080, _cluster),
    Scrape("keda", "KEDA's operator", 8080, _gpus),
    Scrape("cert-manager", "cert-manager", 9402, _cluster),
)


def scrapes(phase: Phase) -> tuple[Scrape, ...]:
    """The jobs of a phase."""
    return tuple(scrape for scrape in _ALL if scrape.used(phase))


def asks(phase: Phase, job: str) -> bool:
    """Whether Prometheus asks such processes in a phase."""
    return job in {scrape.job for scrape in scrapes(phase)}
