"""Builds the metrics of one process."""

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from app.telemetry.metrics import Metrics


def build_metrics(version: str, phase: str) -> Metrics:
    """The catalogue on a registry of its own, with the process's memory, CPU and garbage collection beside it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    metrics = Metrics(registry)
    metrics.build_info.labels(version=version, phase=phase).set(1)
    return metrics
