"""Exemplars: an observation inside a sampled trace leads to it, any other carries nothing."""

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from app.telemetry.metrics import CATALOGUE, Kind, Metrics

TRACE, SPAN = 0xABCDEF0123456789ABCDEF0123456789, 0x0123456789ABCDEF
LEADING = {
    "http_request_duration_seconds",
    "time_to_answer_seconds",
    "model_call_duration_seconds",
    "agent_run_duration_seconds",
    "job_duration_seconds",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def within(flags: int) -> trace.Span:
    return NonRecordingSpan(SpanContext(TRACE, SPAN, is_remote=False, trace_flags=TraceFlags(flags)))


def exemplars(metrics: Metrics) -> list[dict[str, str]]:
    families = text_string_to_metric_families(openmetrics(metrics.registry).decode())
    return [s.exemplar.labels for family in families for s in family.samples if s.exemplar is not None]


def test_an_observation_within_a_sampled_trace_leads_to_its_span(metrics: Metrics) -> None:
    with trace.use_span(within(TraceFlags.SAMPLED)):
        metrics.time_to_answer_seconds.labels("chat", "whole").observe(0.2)
    assert exemplars(metrics) == [{"trace_id": f"{TRACE:032x}", "span_id": f"{SPAN:016x}"}]


def test_a_trace_that_nobody_keeps_is_not_led_to(metrics: Metrics) -> None:
    metrics.time_to_answer_seconds.labels("chat", "whole").observe(0.2)
    with trace.use_span(within(TraceFlags.DEFAULT)):
        metrics.time_to_answer_seconds.labels("chat", "whole").observe(0.2)
    assert exemplars(metrics) == []


def test_the_plain_format_is_the_same_with_and_without(metrics: Metrics) -> None:
    with trace.use_span(within(TraceFlags.SAMPLED)):
        metrics.time_to_answer_seconds.labels("chat", "whole").observe(0.2)
    assert b"trace_id" not in generate_latest(metrics.registry)


def test_these_histograms_lead_to_traces_and_no_others() -> None:
    assert {spec.attribute for spec in CATALOGUE if spec.exemplars} == LEADING
    assert all(spec.kind is Kind.HISTOGRAM for spec in CATALOGUE if spec.exemplars)
