"""What is said of an expression that asks for what nobody exposes."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.promql import Metric, exposition, federated, known, problems, read

GOOD = (
    'sum by (route) (rate(trellis_http_requests_total{status_class="5xx", route=~"$route"}[$__rate_interval]))',
    "histogram_quantile(0.99, sum by (le, pack) (rate(trellis_time_to_answer_seconds_bucket[$__rate_interval])))",
    "sum(increase(trellis_model_cost_usd_total[$__range])) / $__range_s",
    "sum by (version) (rate(trellis_http_requests_total[5m]) * on (instance) group_left (version) trellis_build_info)",
    'up{job=~"trellis-.*"} == 0',
    "process_resident_memory_bytes",
    "topk(3, sum by (job) (process_open_fds))",
    'trellis_http_requests_total{route="${route:regex}"}',
    "absent(trellis_build_info) or vector(0)",
)
BAD = {
    "sum(": "not PromQL",
    "trellis_gone_total": "nothing exposes trellis_gone_total",
    "sum by (pack) (trellis_http_in_flight)": "no label pack",
    "sum by (pack) (sum by (route) (trellis_http_requests_total))": "no label pack",
    'trellis_http_in_flight{route="/x"}': "has no label route",
    'trellis_http_requests_total{status_class="500"}': "never has status_class='500'",
    'trellis_http_requests_total{status_class=~"4xx|6xx"}': "never has status_class='6xx'",
    'up{job="trellis"}': "never has job='trellis'",
    "rate(trellis_http_in_flight[5m])": "which is a gauge",
    "histogram_quantile(0.5, sum by (pack) (rate(trellis_time_to_answer_seconds_bucket[5m])))": "no label le",
    "sum by (route) (trellis_http_requests_total) / sum by (method) (trellis_http_requests_total)": "never match",
    "sum(trellis_http_in_flight) / on (pack) sum by (pack) (trellis_decisions_total)": "no label pack",
    "trellis_http_in_flight * on (instance) group_left (release) trellis_build_info": "no label release",
}


@pytest.fixture(scope="module")
def names() -> Mapping[str, Metric]:
    return known()


@pytest.mark.parametrize("expr", GOOD)
def test_nothing_is_said_of_what_exists(expr: str, names: Mapping[str, Metric]) -> None:
    assert problems(expr, names) == ()


@pytest.mark.parametrize("expr", BAD)
def test_what_nobody_exposes_is_named(expr: str, names: Mapping[str, Metric]) -> None:
    assert BAD[expr] in "; ".join(problems(expr, names))


def test_a_reading_says_what_was_asked_for(names: Mapping[str, Metric]) -> None:
    found = read('sum by (route) (rate(trellis_http_requests_total{method!="GET"}[5m]))', names)
    assert [(s.metric, s.matchers[0].label, s.matchers[0].operator) for s in found.selectors] == [
        ("trellis_http_requests_total", "method", "!=")
    ]
    assert found.groupings == (("route",),)
    assert found.shape.labels == {"route"}


def test_recorded_series_have_the_labels_that_their_expressions_leave(tmp_path: Path) -> None:
    (tmp_path / "poc").mkdir()
    (tmp_path / "poc" / "a.yaml").write_text(
        """
groups:
  - name: a
    rules:
      - {record: "b:rate", expr: "sum by (pack) (a:rate)"}
      - {record: "a:rate", expr: "sum by (pack, action) (rate(trellis_decisions_total[5m]))", labels: {window: 5m}}
      - {alert: Slow, expr: "b:rate > 1", labels: {severity: page, window: 5m}}
"""
    )
    found = known(tmp_path)
    assert (found["a:rate"].labels, found["b:rate"].labels) == ({"pack", "action", "window"}, {"pack"})
    assert problems('ALERTS{alertname="Slow", window="5m", alertstate="firing"}', found) == ()
    assert "never has alertname='Fast'" in problems('ALERTS{alertname="Fast"}', found)[0]


def test_an_exposition_keeps_names_as_they_are_sent() -> None:
    text = '# TYPE redis_keys counter\nredis_keys{db="db0",note="a \\"b\\"=1"} 1\n# TYPE wait summary\nwait_sum 2.5\n'
    found = exposition(text)
    assert (found["redis_keys"].labels, found["redis_keys"].kind) == ({"db", "note"}, "counter")
    assert (found["wait_sum"].labels, found["wait_sum"].kind) == (set(), "summary")


def test_regions_are_told_apart_only_from_above(names: Mapping[str, Metric]) -> None:
    expr = "sum by (region) (trellis:requests:rate5m)"
    assert "no label region" in problems(expr, names)[0]
    assert problems(expr, federated(names)) == ()
    assert "nothing exposes" in problems("sum by (region) (trellis_http_in_flight)", federated(names))[0]
