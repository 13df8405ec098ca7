"""Metrics pushed by OTLP: what a collector receives, read from the protobuf, is what `/metrics` shows."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry

from app.settings import load_settings
from app.telemetry.metrics import Metrics
from app.telemetry.push import MetricsPush, open_push
from tests.support.server import free_port

ABOUT = {"service.name": "trellis", "service.version": "1.2.3"}
SPAN = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Collector(ThreadingHTTPServer):
    """Takes what is pushed to it; answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.came = threading.Event()
        self.pushes: list[ExportMetricsServiceRequest] = []
        self.paths: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        self.server.pushes.append(ExportMetricsServiceRequest.FromString(body))
        self.server.paths.append((self.path, self.headers.get("x-key")))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()
        self.server.came.set()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def pushed(collector: Collector, metrics: Metrics, **settings: Any) -> list[str]:
    """How the pushes of a short life ended."""
    told: list[str] = []
    chosen = load_settings({}, otlp_url=collector.url, otlp_headers="x-key=secret", metrics_otlp=True, **settings)
    push = open_push(chosen, metrics.registry, ABOUT, told.append)
    assert push is not None
    push.close()
    return told


def received(collector: Collector) -> dict[str, Metric]:
    [resource] = collector.pushes[-1].resource_metrics
    return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}


def attributes(point: Any) -> dict[str, str]:
    return {one.key: one.value.string_value for one in point.attributes}


def test_a_counter_comes_whole_with_its_labels(collector: Collector, metrics: Metrics) -> None:
    metrics.answers.labels("chat", "answered", "exact").inc(3)
    assert pushed(collector, metrics) == ["done"]
    found = received(collector)["trellis_answers"]
    assert found.sum.is_monotonic
    assert found.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    [point] = found.sum.data_points
    assert (attributes(point), point.as_double) == ({"pack": "chat", "outcome": "answered", "cache": "exact"}, 3)
    assert 0 < point.start_time_unix_nano < point.time_unix_nano


def test_a_gauge_comes_as_it_is_and_one_without_series_does_not(collector: Collector, metrics: Metrics) -> None:
    metrics.approvals_pending.set(4)
    pushed(collector, metrics)
    assert [point.as_double for point in received(collector)["trellis_approvals_pending"].gauge.data_points] == [4]
    assert "trellis_documents" not in received(collector)


def test_a_histogram_has_each_bucket_by_itself_and_leads_to_its_trace(collector: Collector, metrics: Metrics) -> None:
    waits = metrics.time_to_answer_seconds.labels("chat", "whole")
    with trace.use_span(NonRecordingSpan(SPAN)):
        waits.observe(0.02)
    for seconds in (0.02, 0.15, 3.0, 1e6):
        waits.observe(seconds)
    pushed(collector, metrics)
    found = received(collector)["trellis_time_to_answer_seconds"]
    [point] = found.histogram.data_points
    assert found.unit == "s"
    assert point.count == 5
    assert point.sum == pytest.approx(1e6 + 3.19)
    by_bound = dict(zip([*point.explicit_bounds, float("inf")], point.bucket_counts, strict=True))
    assert {bound: count for bound, count in by_bound.items() if count} == {0.05: 2, 0.2: 1, 3.0: 1, float("inf"): 1}
    [exemplar] = point.exemplars
    assert int.from_bytes(exemplar.trace_id) == SPAN.trace_id
    assert int.from_bytes(exemplar.span_id) == SPAN.span_id
    assert exemplar.as_double == 0.02


def test_what_the_conventions_name_goes_by_their_names(collector: Collector, metrics: Metrics) -> None:
    calls = metrics.model_call_duration_seconds
    calls.labels("acme", "cheap", "ok").observe(0.1)
    calls.labels("acme", "cheap", "timeout").observe(30)
    metrics.model_call_tokens.labels("acme", "input").observe(900)
    metrics.http_request_duration_seconds.labels("/v1/leads", "other").observe(0.1)
    pushed(collector, metrics)
    found = received(collector)
    base = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "acme", "trellis.model.route": "cheap"}
    durations = [attributes(point) for point in found["gen_ai.client.operation.duration"].histogram.data_points]
    assert durations == [base, base | {"error.type": "timeout"}]
    [usage] = found["gen_ai.client.token.usage"].histogram.data_points
    assert attributes(usage)["gen_ai.token.type"] == "input"
    assert found["gen_ai.client.token.usage"].unit == "{token}"
    [request] = found["http.server.request.duration"].histogram.data_points
    assert attributes(request) == {"http.route": "/v1/leads", "http.request.method": "_OTHER"}


def test_the_process_is_named_and_the_key_sent(collector: Collector, metrics: Metrics) -> None:
    pushed(collector, metrics)
    resource = collector.pushes[-1].resource_metrics[0].resource
    assert {one.key: one.value.string_value for one in resource.attributes} == ABOUT
    assert collector.paths == [("/v1/metrics", "secret")]


def test_it_is_pushed_again_and_again_and_once_more_at_the_end(collector: Collector, metrics: Metrics) -> None:
    class Direct(MetricExporter):
        def __init__(self) -> None:
            super().__init__()
            self.seen = threading.Semaphore(0)

        def export(self, metrics_data: Any, timeout_millis: float = 0, **kwargs: Any) -> MetricExportResult:
            self.seen.release()
            return MetricExportResult.SUCCESS

        def force_flush(self, timeout_millis: float = 0) -> bool:
            return True

        def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None:
            pass

    exporter, told = Direct(), []
    push = MetricsPush(metrics.registry, Resource.get_empty(), exporter, told.append, every_s=0.01)
    push.start()
    assert all(exporter.seen.acquire(timeout=10) for _ in range(3))
    before = len(told)
    push.close()
    assert len(told) > before


def test_a_collector_that_refuses_or_is_away_is_counted(collector: Collector, metrics: Metrics) -> None:
    collector.status = 400
    assert pushed(collector, metrics) == ["failed"]
    told: list[str] = []
    away = load_settings({}, otlp_url=f"http://127.0.0.1:{free_port()}", metrics_otlp=True)
    push = open_push(away, metrics.registry, ABOUT, told.append)
    assert push is not None
    push.close(seconds=0.1)
    assert told == ["failed"]


def test_nothing_is_pushed_where_nobody_asks_for_it(collector: Collector, metrics: Metrics) -> None:
    settings = load_settings({}, otlp_url=collector.url)
    assert open_push(settings, metrics.registry, ABOUT, lambda _: None) is None
