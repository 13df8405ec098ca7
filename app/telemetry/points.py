"""The registry's figures as OpenTelemetry's data points, for a collector that is pushed to.

Counters and histograms are cumulative since the process began. What the semantic conventions have a name for goes by
that name (`app.telemetry.names.METRICS`); the rest keeps the name that `/metrics` shows, a counter's without `_total`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client import Metric as Family
from prometheus_client.samples import Exemplar as Seen
from prometheus_client.samples import Sample

from app.telemetry.metrics import CATALOGUE
from app.telemetry.names import METRICS, Convention

UNITS: Final[Mapping[str, str]] = {
    "": "1",
    "seconds": "s",
    "bytes": "By",
    "tokens": "{token}",
    "steps": "{step}",
    "usd": "{USD}",
}
_SCOPE: Final = InstrumentationScope("trellis")
_UNIT_OF: Final = {spec.name.removesuffix("_total"): UNITS[spec.unit] for spec in CATALOGUE}
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE
Series = tuple[tuple[str, str], ...]


def metrics_data(registry: CollectorRegistry, resource: Resource, started_ns: int, now_ns: int) -> MetricsData:
    """Every family of the registry that has a series.

    Args:
        started_ns, now_ns: nanoseconds since 1970.
    """
    families = (_metric(family, started_ns, now_ns) for family in registry.collect())
    metrics = [metric for metric in families if metric is not None]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(_SCOPE, metrics, "")], "")])


def _metric(family: Family, started_ns: int, now_ns: int) -> Metric | None:
    convention = METRICS.get(family.name, Convention(family.name))
    data: Sum | Gauge | Histogram
    if family.type == "histogram":
        data = Histogram(_histograms(family.samples, convention, started_ns, now_ns), _CUMULATIVE)
    elif family.type == "counter":
        totals = [sample for sample in family.samples if sample.name.endswith("_total")]
        data = Sum(_numbers(totals, convention, started_ns, now_ns), _CUMULATIVE, is_monotonic=True)
    else:
        data = Gauge(_numbers(family.samples, convention, started_ns, now_ns))
    unit = _UNIT_OF.get(family.name, UNITS.get(family.name.rsplit("_", 1)[-1], "1"))
    return Metric(convention.name, family.documentation, unit, data) if data.data_points else None


def _numbers(samples: Iterable[Sample], convention: Convention, started_ns: int, now_ns: int) -> list[NumberDataPoint]:
    return [
        NumberDataPoint(convention.attributes_of(sample.labels), started_ns, now_ns, float(sample.value))
        for sample in samples
    ]


def _histograms(
    samples: Iterable[Sample], convention: Convention, started_ns: int, now_ns: int
) -> list[HistogramDataPoint]:
    buckets: dict[Series, list[Sample]] = {}
    sums: dict[Series, float] = {}
    for sample in samples:
        series = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(series, []).append(sample)
        elif sample.name.endswith("_sum"):
            sums[series] = sample.value
    return [
        _histogram(found, sums[series], convention.attributes_of(dict(series)), started_ns, now_ns)
        for series, found in buckets.items()
    ]


def _histogram(
    buckets: Sequence[Sample], total: float, attributes: Mapping[str, str], started_ns: int, now_ns: int
) -> HistogramDataPoint:
    """Of one series' buckets, which count from below: the wire wants each by itself."""
    up_to = [int(bucket.value) for bucket in buckets]
    # The wire has places for the least and the most seen, which nobody took down.
    return HistogramDataPoint(
        attributes,
        started_ns,
        now_ns,
        up_to[-1],
        total,
        [more - less for less, more in pairwise([0, *up_to])],
        [float(bucket.labels["le"]) for bucket in buckets[:-1]],
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        [_exemplar(bucket.exemplar) for bucket in buckets if bucket.exemplar is not None],
    )


def _exemplar(seen: Seen) -> Exemplar:
    at_ns = round(float(seen.timestamp or 0) * 1e9)
    return Exemplar({}, seen.value, at_ns, int(seen.labels["span_id"], 16), int(seen.labels["trace_id"], 16))
