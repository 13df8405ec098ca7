"""Nothing stands in the catalogue that the app never sets, and no label value that it never gives."""

import ast
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import app
from app.telemetry.metrics import CATALOGUE, Kind, Metrics, MetricSpec

ROOT = Path(app.__file__).parent
CATALOGUES = {ROOT / "telemetry" / name for name in ("metrics.py", "specs.py")}
MADE = {"status_class", "level"}  # of the status, f"{status // 100}xx"; of the logger's method
WORDS_OF_BOOL = {"true", "false"}  # str(flag).lower()

each_spec = pytest.mark.parametrize("spec", CATALOGUE, ids=lambda spec: spec.attribute)


@cache
def trees() -> tuple[ast.Module, ...]:
    return tuple(ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py")) if path not in CATALOGUES)


@cache
def attributes() -> frozenset[str]:
    """Every `metrics.name` of the app."""
    return frozenset(node.attr for node in nodes() if isinstance(node, ast.Attribute) and _of_metrics(node.value))


def _of_metrics(node: ast.expr) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return name in ("metrics", "_metrics")


@cache
def words() -> frozenset[str]:
    """Every text of the app."""
    return frozenset(node.value for node in nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str))


def nodes() -> Iterator[ast.AST]:
    return chain.from_iterable(ast.walk(tree) for tree in trees())


@each_spec
def test_the_app_sets_it(spec: MetricSpec) -> None:
    assert spec.attribute in attributes()


@each_spec
def test_the_app_knows_every_value_that_is_listed(spec: MetricSpec) -> None:
    listed = {value for label in spec.labels if label.name not in MADE for value in label.values}
    assert listed - words() - WORDS_OF_BOOL == set()


def test_counters_of_few_listed_values_are_there_before_anything_happened() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    assert registry.get_sample_value("trellis_log_events_total", {"level": "error"}) == 0
    assert registry.get_sample_value("trellis_escalations_total", {"necessary": "false"}) == 0
    assert registry.get_sample_value("trellis_audit_entries_total") == 0
    started = [sum(1 for _ in spec.from_start) for spec in CATALOGUE]
    assert max(started) <= 24
    assert all(not list(spec.from_start) for spec in CATALOGUE if spec.kind is not Kind.COUNTER)


def test_a_counter_whose_values_are_not_listed_waits_for_its_first() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    assert (
        registry.get_sample_value("trellis_answers_total", {"pack": "", "outcome": "failed", "cache": "none"}) is None
    )
