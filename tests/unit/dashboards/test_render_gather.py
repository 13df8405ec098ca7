"""What a picture asks Prometheus, and how its answers are named."""

import pytest

from dashboards.render.gather import held, legend
from dashboards.render.grafana import Target
from tests.support.boards import END, START, FakePrometheus, between, board, gathered, over, panel

RATE = "rate(x[$__rate_interval])"


async def test_a_query_is_asked_with_its_interval_and_its_variables() -> None:
    variables = [{"type": "query", "name": "pack", "includeAll": True, "query": "label_values(x, pack)"}]
    prometheus = FakePrometheus()
    await gathered(
        board(panel("timeseries", 'rate(x{pack=~"$pack"}[$__rate_interval])'), variables=variables), prometheus
    )
    # The scrape interval is 5 s, the step 10 s: four scrapes are longer.
    assert 'rate(x{pack=~".*"}[20s])' in prometheus.asked


async def test_a_panel_s_own_interval_makes_its_steps_longer() -> None:
    document = panel("timeseries", RATE) | {"interval": "1m"}
    prometheus = FakePrometheus()
    found = await gathered(board(document), prometheus)
    assert "rate(x[65s])" in prometheus.asked
    assert found.panels[0].step == 60


async def test_a_value_that_a_person_chose_stands_for_its_variable() -> None:
    variables = [{"type": "query", "name": "pack", "includeAll": True, "query": "label_values(x, pack)"}]
    prometheus = FakePrometheus()
    await gathered(board(panel("stat", "x$pack"), variables=variables), prometheus, {"pack": "chat"})
    assert "xchat" in prometheus.asked
    with pytest.raises(ValueError, match="no variable 'region'; it has: pack"):
        await gathered(board(panel("stat", "x"), variables=variables), prometheus, {"region": "eu"})


async def test_a_variable_without_all_is_the_first_value_that_its_label_has() -> None:
    variables = [{"type": "query", "name": "job", "query": "label_values(up, job)"}]
    prometheus = FakePrometheus({"group by (job) (up)": [over(1, job="b"), over(1, job="a")]})
    found = await gathered(board(panel("stat", "$job"), variables=variables), prometheus)
    assert found.chosen == {"job": "a"}


async def test_a_series_is_named_by_its_legend_and_hidden_queries_are_not_asked() -> None:
    document = panel("timeseries", "x", "y", legend="{{job}} {{le}}")
    document["targets"][1]["hide"] = True
    prometheus = FakePrometheus({"x": [over(1, job="api")]})
    found = await gathered(board(document), prometheus)
    assert [series.name for series in found.panels[0].series] == ["api le"]
    assert "y" not in prometheus.asked


def test_without_a_legend_the_labels_are_the_name() -> None:
    assert legend(Target("A", "x"), {"__name__": "x", "b": "2", "a": "1"}, 2) == 'x{a="1", b="2"}'
    assert legend(Target("A", "x", "__auto"), {"__name__": "x"}, 1) == "x"


async def test_what_a_query_fails_with_is_kept_with_its_panel_and_for_the_end() -> None:
    prometheus = FakePrometheus({"x": "parse error: unexpected end", "y": [over(1)]})
    found = await gathered(board(panel("stat", "x", title="Broken"), panel("stat", "y")), prometheus)
    assert found.panels[0].errors == ["parse error: unexpected end"]
    assert found.errors == ["Broken: parse error: unexpected end"]
    assert found.panels[1].series[0].last == 1


async def test_alerts_are_stretches_without_those_for_machines() -> None:
    alerts = [
        between(
            100, 150, alertname="ModelErrors", alertstate="pending", severity="page", provider="local", team="models"
        ),
        between(
            160, 300, alertname="ModelErrors", alertstate="firing", severity="page", provider="local", team="models"
        ),
        between(0, 600, alertname="Watchdog", alertstate="firing", severity="none"),
    ]
    found = await gathered(board(panel("stat", "x")), FakePrometheus({"ALERTS": alerts}))
    assert found.watched
    assert [(s.name, s.severity, s.detail, s.state, s.start - START, s.end - START) for s in found.spans] == [
        ("ModelErrors", "page", "local", "firing", 160, 310),
        ("ModelErrors", "page", "local", "pending", 100, 160),
    ]


async def test_an_annotation_marks_where_its_expression_holds() -> None:
    asked = [{"name": "Deployments", "expr": "started", "titleFormat": "Version {{version}} starts"}]
    prometheus = FakePrometheus({"started": [between(50, 80, version="2.0")]})
    found = await gathered(board(panel("stat", "x"), annotations=asked), prometheus)
    assert [(span.name, span.start - START, span.alert) for span in found.spans] == [("Version 2.0 starts", 50, False)]


def test_points_that_follow_each_other_are_one_stretch_and_a_gap_ends_it() -> None:
    points = [(0.0, 1.0), (10.0, 1.0), (40.0, 1.0)]
    assert held(points, 10.0) == [(0.0, 20.0), (40.0, 50.0)]


async def test_panels_of_another_source_ask_nothing() -> None:
    logs = {"type": "logs", "title": "Logs", "targets": [{"expr": '{a="b"}', "datasource": {"type": "loki"}}]}
    prometheus = FakePrometheus()
    found = await gathered(board(logs), prometheus)
    assert (found.panels[0].panel.source, found.panels[0].series) == ("loki", ())
    assert '{a="b"}' not in prometheus.asked
    assert found.window.end == END
