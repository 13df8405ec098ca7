"""What a metric is: its name, unit, labels and buckets, and how it is put on a registry."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import prod
from typing import Final

from opentelemetry import trace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

PREFIX: Final = "trellis_"
MOST_FROM_START: Final = 24
"""Series of a counter that are shown at 0 before anything was counted."""


class TracedHistogram(Histogram):
    """Gives an observation the ids of the span that it was made in, where its trace is sampled and so can be found."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        context = trace.get_current_span().get_span_context()
        if context.trace_flags.sampled:
            exemplar = {
                "trace_id": trace.format_trace_id(context.trace_id),
                "span_id": trace.format_span_id(context.span_id),
            }
        super().observe(amount, exemplar)


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and what bounds its values: `values` lists them, or `source` says where the bounded set is declared."""

    name: str
    values: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    `name` is the exposed name (a counter's has `_total`; a histogram's series add `_bucket`, `_sum`, `_count`).
    `unit` is the base unit that the name ends in, empty for a plain count or state. `exemplars`: its buckets lead to
    a trace.
    """

    attribute: str
    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    exemplars: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def from_start(self) -> Iterator[tuple[str, ...]]:
        """Label values that a counter shows at 0 before anything was counted: all, where they are listed and few.

        A series that first appears at 1 has no increase, and an alert upon it would miss the first event.
        """
        if (
            self.kind is Kind.COUNTER
            and self.labels
            and prod(len(one.values) for one in self.labels) <= MOST_FROM_START
        ):
            yield from product(*(one.values for one in self.labels))

    def build(self, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
        """Registers the metric; raises ValueError where the registry already holds its name."""
        if self.kind is Kind.HISTOGRAM:
            kind = TracedHistogram if self.exemplars else Histogram
            return kind(self.name, self.help, self.label_names, registry=registry, buckets=self.buckets)
        if self.kind is Kind.GAUGE:
            return Gauge(self.name, self.help, self.label_names, registry=registry)
        counter = Counter(self.name, self.help, self.label_names, registry=registry)
        for values in self.from_start:
            counter.labels(*values)
        return counter


# Every latency target of every phase (0.1, 0.3, 0.5, 1, 2, 3 s) is a bucket's edge, so that a share "within
# the target" is read off exactly and never interpolated.
OWN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0)
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
CALL_BUCKETS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
JOB_BUCKETS = (0.01, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
WAIT_BUCKETS = (0.1, 0.3, 0.5, 1.0, 2.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 259200.0)
GAP_BUCKETS = (0.0, 1e-6, 1e-4, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SHARE_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# Those of OpenTelemetry's generative AI conventions for tokens, as far as a context reaches.
TOKEN_BUCKETS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0)
STEP_BUCKETS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0)

ROUTE = Label("route", source="path templates of the API, and 'unmatched'")
METHOD = Label("method", ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "other"))
PROVIDER = Label("provider", source="model providers of the settings")
MODEL_ROUTE = Label("route", source="model routes of the settings")
BREAKER = Label("name", source="model providers and tools, one breaker each")
TOOL = Label("tool", source="tools that packs register, and 'unknown' for a name that a model made up")
QUEUE = Label("queue", source="queues that packs register")
# Not `job`: Prometheus has a label of that name, and would keep ours as `exported_job`.
JOB = Label("task", source="jobs that packs register")
AGENT = Label("agent", source="agent specs that packs declare")
TEAM = Label("team", source="teams that app/packs/teams/teams.yaml names")
PACK = Label("pack", source="folders of app/packs")
CACHE = Label("cache", ("models", "answers", "semantic", "embeddings", "retrieval"))


STATUSES = ("queued", "processing", "ready", "failed")


def counter(attribute: str, help: str, *labels: Label, unit: str = "") -> MetricSpec:
    return MetricSpec(attribute, f"{PREFIX}{attribute}_total", Kind.COUNTER, unit, help, labels)


def gauge(attribute: str, help: str, *labels: Label, unit: str = "") -> MetricSpec:
    return MetricSpec(attribute, f"{PREFIX}{attribute}", Kind.GAUGE, unit, help, labels)


def histogram(
    attribute: str,
    help: str,
    *labels: Label,
    buckets: tuple[float, ...],
    unit: str = "seconds",
    exemplars: bool = False,
) -> MetricSpec:
    return MetricSpec(attribute, f"{PREFIX}{attribute}", Kind.HISTOGRAM, unit, help, labels, buckets, exemplars)
