"""Starts what one process tells of itself: metrics, traces, errors."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from app.settings import Settings
from app.telemetry import names
from app.telemetry.errors import Reporter, SentryReporter, open_reporter
from app.telemetry.instruments import Instruments
from app.telemetry.masking import Scrub
from app.telemetry.metrics import LEVELS, Metrics
from app.telemetry.push import MetricsPush, open_push
from app.telemetry.tracing import MOST_CLOSE_S, Tracing, open_tracing

SENTRY_CLOSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Traces, pushed metrics and errors of one process; `tracing` and `push` are None where nothing is kept or sent."""

    tracing: Tracing | None
    instruments: Instruments
    reporter: Reporter
    push: MetricsPush | None

    async def close(self, seconds: float) -> None:
        """Sends what waits, in about that time."""
        if self.tracing is not None:
            await self.tracing.close(seconds)
        if self.push is not None:
            await asyncio.to_thread(self.push.close, min(seconds, MOST_CLOSE_S))
        if isinstance(self.reporter, SentryReporter):
            await self.reporter.close(min(seconds, SENTRY_CLOSE_S))


def open_telemetry(settings: Settings, service: str, version: str, scrub: Scrub, metrics: Metrics) -> Telemetry:
    """Traces, pushed metrics and errors from now on.

    Args:
        service: the process's kind, `trellis-api` or `trellis-worker`.
        scrub: masks a value of any depth (`governance.privacy.scrub`).
    """

    def count(result: str, spans: int) -> None:
        metrics.spans.labels(result).inc(spans)

    about = resource_of(settings, service, version)
    tracing, instruments = open_tracing(settings, about, scrub, count)
    push = open_push(settings, metrics.registry, about, lambda result: metrics.metric_pushes.labels(result).inc())
    return Telemetry(tracing, instruments, open_reporter(settings, version, service, scrub), push)


def resource_of(settings: Settings, service: str, version: str) -> dict[str, str]:
    """The process, as OpenTelemetry's resource attributes."""
    about = {
        names.SERVICE: service,
        names.SERVICE_VERSION: version,
        names.SERVICE_INSTANCE: settings.worker_id,
        names.DEPLOYMENT: settings.environment.value,
        names.PHASE: settings.phase.value,
    }
    return {**about, names.REGION: settings.region} if settings.region else about


def log_counter(metrics: Metrics) -> Callable[[str], None]:
    """What counts a log line by its level; levels of libraries' own are not told apart from the house's."""
    lines = {level: metrics.log_events.labels(level) for level in LEVELS}
    return lambda level: lines[level].inc()


def build_metrics(version: str, phase: str) -> Metrics:
    """The catalogue on a registry of its own, with the process's memory, CPU and garbage collection beside it."""
    # A gauge beside each counter and histogram, which says when it was made: as many series again, and no use.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    metrics = Metrics(registry)
    metrics.build_info.labels(version=version, phase=phase).set(1)
    return metrics
