"""Says whether an expression asks for what exists: every metric, label, label value and window in it.

Labels are followed through an expression: `sum by (route) (...)` leaves only `route`, so a later `by (pack)` asks
for a label that is gone, and a division of `by (pack)` by `by (provider)` matches nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import promql_parser as promql
import yaml

from alerts.generate import RULES
from app.telemetry.metrics import CATALOGUE, Kind, MetricSpec
from app.telemetry.setup import build_metrics
from infra.phases import PHASES
from infra.scrapes import scrapes

EXPOSITIONS: Final = Path(__file__).parent.parent / "data" / "expositions"
SCRAPED: Final = frozenset({"job", "instance", "namespace", "pod", "node"})
_SAMPLE: Final = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s")
_LABEL: Final = re.compile(r'([a-zA-Z_]\w*)="(?:[^"\\]|\\.)*"')
_SUFFIX: Final = re.compile(r"_(total|bucket|sum|count)$")
_STANDING: Final = ("severity", "team", "phase")
_VARIABLES: Final = (
    (re.compile(r"\$(__rate_interval|\{__rate_interval\})"), "5m"),
    (re.compile(r"\$(__interval|\{__interval\})"), "1m"),
    (re.compile(r"\$(__range|\{__range\})(?!\w)"), "3h"),
    (re.compile(r"\$(__range_s|\{__range_s\})"), "10800"),
    (re.compile(r"\$(\w+|\{\w+(:\w+)?\})(?=[^'\"]*['\"])"), ".*"),
)
_KEEPING: Final = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
_RATES: Final = frozenset({"rate", "irate", "increase"})
ANY: Final = ".*"


def plain(expr: str) -> str:
    """The expression with Grafana's variables replaced, as Prometheus would be sent it."""
    for pattern, value in _VARIABLES:
        expr = pattern.sub(value, expr)
    return expr


@dataclass(frozen=True, slots=True)
class Metric:
    """One series name: the labels it may have (`values`: those whose values are known), and its kind."""

    labels: frozenset[str]
    kind: str = "untyped"
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Matcher:
    label: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Selector:
    metric: str
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Labels that the result of an expression has. `exact`: every series has them all (after an aggregation)."""

    labels: frozenset[str] = frozenset()
    exact: bool = True
    scalar: bool = False
    metrics: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reading:
    """What an expression asks for. `groupings`: the labels of each `by`, `without`, `on` and `ignoring`."""

    selectors: tuple[Selector, ...]
    groupings: tuple[tuple[str, ...], ...]
    shape: Shape
    problems: tuple[str, ...]


def read(expr: str, known: Mapping[str, Metric]) -> Reading:
    """Raises ValueError where `expr` is not PromQL."""
    reader = _Reader(known)
    shape = reader.shape(promql.parse(plain(expr)))
    return Reading(tuple(reader.selectors), tuple(reader.groupings), shape, tuple(reader.problems))


def problems(expr: str, known: Mapping[str, Metric]) -> tuple[str, ...]:
    """What in `expr` cannot give data, one sentence each; a syntax error is one of them."""
    try:
        return read(expr, known).problems
    except ValueError as error:
        return (f"not PromQL: {error}",)


class _Reader:
    """One walk over one expression."""

    def __init__(self, known: Mapping[str, Metric]) -> None:
        self._known = known
        self.selectors: list[Selector] = []
        self.groupings: list[tuple[str, ...]] = []
        self.problems: list[str] = []

    def shape(self, node: Any) -> Shape:
        match node:
            case promql.NumberLiteral() | promql.StringLiteral():
                return Shape(scalar=True)
            case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
                return self.shape(node.expr)
            case promql.MatrixSelector():
                return self._selected(node.vector_selector)
            case promql.VectorSelector():
                return self._selected(node)
            case promql.AggregateExpr():
                return self._aggregated(node)
            case promql.Call():
                return self._called(node)
            case promql.BinaryExpr():
                return self._joined(node)
        raise TypeError(f"no rule for {type(node).__name__}")

    def _selected(self, node: Any) -> Shape:
        selector = _selector(node)
        self.selectors.append(selector)
        metric = self._known.get(selector.metric)
        if metric is None:
            self.problems.append(f"nothing exposes {selector.metric or node}")
            return Shape(exact=False)
        for matcher in selector.matchers:
            self._match(selector.metric, metric, matcher)
        return Shape(metric.labels, exact=False, metrics=frozenset({selector.metric}))

    def _match(self, name: str, metric: Metric, matcher: Matcher) -> None:
        if matcher.label not in metric.labels:
            self.problems.append(f"{name} has no label {matcher.label}")
        values = metric.values.get(matcher.label)
        if values is None or matcher.value in ("", ANY):
            return
        regex = matcher.operator in ("=~", "!~")
        for choice in matcher.value.split("|") if regex else (matcher.value,):
            pattern = choice if regex else re.escape(choice)
            if not any(re.fullmatch(pattern, value) for value in values):
                self.problems.append(f"{name} never has {matcher.label}={choice!r}")

    def _aggregated(self, node: Any) -> Shape:
        inner = self.shape(node.expr)
        labels = frozenset(node.modifier.labels) if node.modifier else frozenset()
        self._group(labels, inner)
        if str(node.op) in _KEEPING:
            return inner
        if node.modifier and node.modifier.type == promql.AggModifierType.Without:
            return Shape(inner.labels - labels, exact=inner.exact, metrics=inner.metrics)
        added = frozenset({node.param.val}) if str(node.op) == "count_values" else frozenset()
        return Shape((labels & inner.labels) | added, metrics=inner.metrics)

    def _group(self, labels: frozenset[str], inner: Shape) -> None:
        self.groupings.append(tuple(sorted(labels)))
        for label in sorted(labels - inner.labels) if inner.metrics else ():
            self.problems.append(f"no label {label} on {' or '.join(sorted(inner.metrics))} where it is asked for")

    def _called(self, node: Any) -> Shape:
        name = node.func.name
        arguments = [self.shape(argument) for argument in node.args]
        vectors = [argument for argument in arguments if not argument.scalar]
        if name in ("scalar", "time", "pi"):
            return Shape(scalar=True)
        if name == "vector" or not vectors:
            return Shape()
        inner = vectors[0]
        if name in ("absent", "absent_over_time"):
            return Shape(inner.labels, exact=False)
        if name in _RATES:
            self._rated(name, inner)
        if name == "histogram_quantile" and "le" not in inner.labels:
            self.problems.append(f"no label le left on {' or '.join(sorted(inner.metrics))} for histogram_quantile")
        if name in ("label_replace", "label_join"):
            return Shape(inner.labels | {node.args[1].val}, inner.exact, metrics=inner.metrics)
        spent = {"le"} if name == "histogram_quantile" else set()
        return Shape(inner.labels - spent, inner.exact, metrics=inner.metrics)

    def _rated(self, function: str, inner: Shape) -> None:
        for metric in sorted(inner.metrics):
            if self._known[metric].kind == "gauge":
                self.problems.append(f"{function}() of {metric}, which is a gauge")

    def _joined(self, node: Any) -> Shape:
        left, right = self.shape(node.lhs), self.shape(node.rhs)
        if left.scalar or right.scalar:
            return right if left.scalar else left
        metrics = left.metrics | right.metrics
        matching = node.modifier.matching if node.modifier else None
        if matching is not None:
            return self._matched(node, frozenset(matching.labels), left, right)
        if str(node.op) == "or":
            return Shape(left.labels | right.labels, left.exact and right.exact, metrics=metrics)
        if left.exact and right.exact and left.labels != right.labels:
            self.problems.append(f"{sorted(left.labels)} and {sorted(right.labels)} never match ({node.op})")
        return Shape(left.labels, left.exact, metrics=metrics)

    def _matched(self, node: Any, labels: frozenset[str], left: Shape, right: Shape) -> Shape:
        for side in (left, right):
            self._group(labels, side)
        metrics = left.metrics | right.metrics
        if str(node.op) in ("and", "unless", "or"):
            return Shape(left.labels, left.exact, metrics=metrics)
        if node.modifier.card == promql.VectorMatchCardinality.OneToOne:
            included = node.modifier.matching.type == promql.LabelModifierType.Include
            return Shape(labels if included else left.labels - labels, left.exact and right.exact, metrics=metrics)
        many, one = (left, right) if node.modifier.card == promql.VectorMatchCardinality.ManyToOne else (right, left)
        extra = frozenset(node.modifier.group_labels or ())
        self._group(extra, one)
        return Shape(many.labels | extra, many.exact, metrics=metrics)


def _selector(node: Any) -> Selector:
    operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    matchers = tuple(
        Matcher(found.name, operators[str(found.op).removeprefix("MatchOp.")], found.value)
        for found in node.matchers.matchers
    )
    named = {matcher.value for matcher in matchers if matcher.label == "__name__" and matcher.operator == "="}
    name = node.name or next(iter(named), "")
    return Selector(name, tuple(matcher for matcher in matchers if matcher.label != "__name__"))


def metrics_in(expr: str) -> Iterator[str]:
    """The names that an expression selects, known or not."""
    return (selector.metric for selector in read(expr, {}).selectors)


def known(rules: Path = RULES) -> Mapping[str, Metric]:
    """By name. `rules`: where the files of recorded series and alerts are, one folder a phase."""
    jobs = frozenset(scrape.job for phase in PHASES.values() for scrape in scrapes(phase))
    found = dict(_exposed())
    for spec in CATALOGUE:
        found.update(_series(spec))
    found = {name: Metric(m.labels | SCRAPED, m.kind, {"job": jobs, **m.values}) for name, m in found.items()}
    documents = [yaml.safe_load(path.read_text()) for path in sorted(rules.glob("*/*.yaml"))]
    found["ALERTS"] = _alerts(documents)
    _record(documents, found)
    return found


def federated(found: Mapping[str, Metric]) -> Mapping[str, Metric]:
    """What the Prometheus above the regions has of `known()`: it takes this alone of each region."""
    whole = ("ALERTS", "up", "trellis_build_info")
    taken = {name: metric for name, metric in found.items() if name.startswith("trellis:") or name in whole}
    return {name: replace(metric, labels=metric.labels | {"region", "phase"}) for name, metric in taken.items()}


def _series(spec: MetricSpec) -> Iterator[tuple[str, Metric]]:
    values = {label.name: frozenset(label.values) for label in spec.labels if label.values}
    labels = frozenset(spec.label_names)
    if spec.kind is not Kind.HISTOGRAM:
        yield spec.name, Metric(labels, spec.kind.value, values)
        return
    yield f"{spec.name}_bucket", Metric(labels | {"le"}, "histogram", values)
    yield f"{spec.name}_sum", Metric(labels, "histogram", values)
    yield f"{spec.name}_count", Metric(labels, "histogram", values)


def _exposed() -> Iterator[tuple[str, Metric]]:
    """What the exporters say, what our process says of itself, and what Prometheus adds to each target."""
    for family in build_metrics("0", "poc").registry.collect():
        for sample in family.samples:
            yield sample.name, Metric(frozenset(sample.labels), family.type)
    for path in sorted(EXPOSITIONS.glob("*.prom")):
        yield from exposition(path.read_text()).items()
    for name in ("up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_series_added"):
        yield name, Metric(frozenset(), "gauge")
    yield "scrape_samples_post_metric_relabeling", Metric(frozenset(), "gauge")


def exposition(text: str) -> Mapping[str, Metric]:
    """The series of one exposition. (prometheus_client's parser renames counters that lack `_total`.)"""
    kinds: dict[str, str] = {}
    found: dict[str, Metric] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(maxsplit=3)
            kinds[name] = kind
        elif sample := _SAMPLE.match(line):
            name, labels = sample[1], frozenset(_LABEL.findall(sample[2] or ""))
            kind = kinds.get(name) or kinds.get(_SUFFIX.sub("", name), "untyped")
            found[name] = Metric(labels | found[name].labels if name in found else labels, kind)
    return found


def _rules(documents: list[Any], kind: str) -> Iterator[Mapping[str, Any]]:
    for document in documents:
        for group in document["groups"]:
            yield from (rule for rule in group["rules"] if kind in rule)


def _alerts(documents: list[Any]) -> Metric:
    """The series in which Prometheus keeps alerts: labels of the rules (those of expressions come on top)."""
    rules = list(_rules(documents, "alert"))
    labels = frozenset(_STANDING).union(*(rule.get("labels", {}) for rule in rules))
    names = {"alertname": frozenset(rule["alert"] for rule in rules)} if rules else {}
    states = frozenset({"pending", "firing"})
    return Metric(labels | {"alertname", "alertstate"} | SCRAPED, "gauge", {"alertstate": states, **names})


def _record(documents: list[Any], found: dict[str, Metric]) -> None:
    """Adds recorded series; one that is made of another comes after it, in whatever order the files have them."""
    waiting = list(_rules(documents, "record"))
    while waiting:
        names = {rule["record"] for rule in waiting}
        ready = [rule for rule in waiting if names.isdisjoint(metrics_in(rule["expr"]))] or waiting
        for rule in ready:
            labels = read(rule["expr"], found).shape.labels | rule.get("labels", {}).keys()
            before = found.get(rule["record"], Metric(frozenset()))
            found[rule["record"]] = Metric(before.labels | labels, "gauge")
        waiting = [rule for rule in waiting if rule not in ready]
