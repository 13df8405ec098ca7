"""Metrics pushed to a collector by OTLP, beside `/metrics`: the same figures, by a thread of its own."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

import structlog
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.re import parse_env_headers
from prometheus_client import CollectorRegistry

from app.settings import Settings, revealed
from app.telemetry.points import metrics_data

EVERY_S: Final = 15.0
SEND_S: Final = 5.0
"""For one push, its repetitions with it."""
LEFT_S: Final = 1.0
_log = structlog.get_logger(__name__)

Told = Callable[[Literal["done", "failed"]], None]
"""Hears how each push ended."""


class MetricsPush:
    """Pushes until it is closed, then once more. A collector that is away costs a failure that is counted.

    Args:
        resource: as the traces have it.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        resource: Resource,
        exporter: MetricExporter,
        told: Told,
        *,
        every_s: float = EVERY_S,
    ) -> None:
        self._registry = registry
        self._resource = resource
        self._exporter = exporter
        self._told = told
        self._every_s = every_s
        self._started_ns = time.time_ns()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics-push", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float = SEND_S) -> None:
        """The last figures are sent, as far as the time allows. Blocks: for a thread, or a test."""
        self._ending.set()
        self._thread.join(seconds)
        # Ends the waiting for a collector that does not answer.
        self._exporter.shutdown()
        self._thread.join(LEFT_S)

    def _run(self) -> None:
        while not self._ending.wait(self._every_s):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            data = metrics_data(self._registry, self._resource, self._started_ns, time.time_ns())
            done = self._exporter.export(data) is MetricExportResult.SUCCESS
        except Exception as error:
            _log.warning("metrics.push_failed", exc_info=error)
            done = False
        self._told("done" if done else "failed")


def open_push(
    settings: Settings, registry: CollectorRegistry, about: Mapping[str, str], told: Told
) -> MetricsPush | None:
    """Begun where the settings ask for it, else None.

    Args:
        about: the process, as OpenTelemetry's resource attributes.
    """
    if settings.otlp_url is None or not settings.metrics_otlp:
        return None
    # It brings an HTTP library of its own.
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=f"{settings.otlp_url.rstrip('/')}/v1/metrics",
        headers=parse_env_headers(revealed(settings.otlp_headers) or "", liberal=True),
        timeout=SEND_S,
        compression=Compression.Gzip,
    )
    push = MetricsPush(registry, Resource(dict(about)), exporter, told)
    push.start()
    return push
