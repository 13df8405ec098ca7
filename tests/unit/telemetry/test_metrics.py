"""The catalogue keeps the naming rules, and the built metrics are the catalogue's."""

import re

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from app.telemetry.metrics import CATALOGUE, PREFIX, Kind, Metrics, MetricSpec, foreign_label_values

UNITS = {"", "seconds", "usd", "tokens", "steps", "bytes"}
PHASE_TARGETS_S = {0.1, 0.3, 0.5, 1.0, 2.0, 3.0}
PERSON_OR_TENANT = {
    "tenant",
    "tenant_id",
    "user",
    "user_id",
    "lead",
    "lead_id",
    "email",
    "key",
    "request_id",
    "subject",
}
CLASSES = {Kind.COUNTER: Counter, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}

each_spec = pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.attribute)


@each_spec
def test_a_name_is_valid_and_carries_the_prefix(spec: MetricSpec) -> None:
    assert re.fullmatch(r"trellis_[a-z][a-z0-9]*(_[a-z0-9]+)*", spec.name)
    assert not re.search(r"_(bucket|sum|count|created)$", spec.name)


@each_spec
def test_an_attribute_is_the_name_without_prefix_and_total(spec: MetricSpec) -> None:
    assert spec.attribute == spec.name.removeprefix(PREFIX).removesuffix("_total")


@each_spec
def test_only_counters_end_in_total(spec: MetricSpec) -> None:
    assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)


@each_spec
def test_a_name_ends_in_its_unit(spec: MetricSpec) -> None:
    assert spec.unit in UNITS
    base = spec.name.removesuffix("_total")
    if spec.unit:
        assert base.endswith(f"_{spec.unit}")
    else:
        assert base.rsplit("_", 1)[-1] not in UNITS | {"ms", "milliseconds", "minutes", "cents", "micros"}


@each_spec
def test_every_label_is_bounded_and_names_no_person_or_tenant(spec: MetricSpec) -> None:
    for label in spec.labels:
        assert re.fullmatch(r"[a-z][a-z_]*", label.name)
        assert bool(label.values) != bool(label.source)
        assert label.name not in PERSON_OR_TENANT
        assert len(label.values) <= 10
    assert len(set(spec.label_names)) == len(spec.label_names) <= 3


@each_spec
def test_buckets_belong_to_histograms_rise_and_hold_the_targets(spec: MetricSpec) -> None:
    assert bool(spec.buckets) == (spec.kind is Kind.HISTOGRAM)
    assert list(spec.buckets) == sorted(set(spec.buckets))
    if spec.kind is Kind.HISTOGRAM and spec.unit == "seconds":
        assert set(spec.buckets) >= PHASE_TARGETS_S


@each_spec
def test_help_is_one_sentence(spec: MetricSpec) -> None:
    assert spec.help.endswith(".")
    assert "\n" not in spec.help


def test_names_are_unique() -> None:
    assert len({spec.name for spec in CATALOGUE}) == len(CATALOGUE)


def test_metrics_has_exactly_the_catalogue_as_attributes_of_the_declared_classes() -> None:
    metrics = Metrics(CollectorRegistry())
    assert Metrics.__annotations__ == {spec.attribute: CLASSES[spec.kind] for spec in CATALOGUE}
    for spec in CATALOGUE:
        assert isinstance(getattr(metrics, spec.attribute), CLASSES[spec.kind])


def test_a_counter_is_exposed_under_its_catalogue_name() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.http_requests.labels(route="/v1/leads", method="POST", status_class="2xx").inc()
    line = 'trellis_http_requests_total{method="POST",route="/v1/leads",status_class="2xx"} 1.0'
    assert line in generate_latest(metrics.registry).decode().splitlines()


def test_two_services_in_one_process_have_their_own_registries() -> None:
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.audit_entries.inc()
    assert second.registry.get_sample_value("trellis_audit_entries_total") == 0.0
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(first.registry)


def test_a_label_value_outside_the_list_is_named() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.tool_calls.labels(tool="crm", outcome="done").inc()
    assert list(foreign_label_values(metrics.registry)) == []
    metrics.tool_calls.labels(tool="crm", outcome="exploded").inc()
    (problem,) = foreign_label_values(metrics.registry)
    assert "outcome='exploded'" in problem
    assert "trellis_tool_calls" in problem
