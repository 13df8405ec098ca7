"""The lint says of a bad board what is bad about it."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dashboards.src.house import Panel, Query, Row, bars, board, document, heatmap, label_variable, series, stat, table
from tests.support.board_lint import lint
from tests.support.promql import Metric, known

TOLD = "What it shows, what is bad, and where to look next."
GOOD = "sum by (route) (rate(trellis_http_requests_total[$__rate_interval]))"
TOTAL = "sum(trellis_http_in_flight)"


@pytest.fixture(scope="module")
def names() -> Mapping[str, Metric]:
    return known()


def built(*found: Panel, collapsed: bool = False) -> dict[str, Any]:
    return json.loads(document(board("x", "X", "A board.", tags=[], rows=[Row("R", found, collapsed)])))


def good(title: str = "Requests", expr: str = GOOD, legend: str = "{{route}}", width: int = 24) -> Panel:
    return series(title, TOLD, "reqps", Query(expr, legend), width=width)


def figure(expr: str) -> Panel:
    return stat("Figure", TOLD, "none", Query(expr), width=24)


BAD: Mapping[str, Callable[[], Panel]] = {
    "no title": lambda: good(title=""),
    "no description of use": lambda: series("A", "Short.", "s", Query(TOTAL, "a"), width=24),
    "no unit": lambda: series("A", TOLD, "", Query(TOTAL, "a"), width=24),
    "[5m] instead of [$__rate_interval]": lambda: good(expr=GOOD.replace("$__rate_interval", "5m")),
    "the legend names none of route": lambda: good(legend="requests"),
    "the legend names pack, which the query does not leave": lambda: good(legend="{{route}} {{pack}}"),
    "nothing exposes trellis_gone": lambda: good(expr="sum by (route) (trellis_gone)"),
    "no label pack": lambda: good(expr=GOOD.replace("route", "pack"), legend="{{pack}}"),
    "no label le": lambda: good(
        expr="histogram_quantile(0.9, sum by (pack) (rate(trellis_own_share_seconds_bucket[$__rate_interval])))",
        legend="{{pack}}",
    ),
    "not PromQL": lambda: good(expr="sum("),
    "several figures in one: the query leaves route": lambda: figure(GOOD),
    "two lines are called 'a'": lambda: series("A", TOLD, "s", Query(TOTAL, "a"), Query("vector(1)", "a"), width=24),
    "not full: lines 1, 2, 3, 4, 5, 6, 7, 8": lambda: good(width=8),
    "a panel reaches beyond column 24": lambda: good(width=25),
    "no query gives a column pack": lambda: table(
        "A", TOLD, Query(GOOD, "rate"), width=24, columns={"pack": "string", "rate": "reqps"}
    ),
    "column route has no unit": lambda: table(
        "A", TOLD, Query(GOOD, "rate"), width=24, columns={"route": "", "rate": "reqps"}
    ),
}


@pytest.mark.parametrize("said", BAD)
def test_a_bad_panel_is_named(said: str, names: Mapping[str, Metric]) -> None:
    found = lint(built(BAD[said]()), names)
    assert len(found) == 1, found
    assert said in found[0]


@pytest.mark.parametrize("collapsed", [False, True])
def test_nothing_is_said_of_good_panels(collapsed: bool, names: Mapping[str, Metric]) -> None:
    buckets = "sum by (le) (rate(trellis_http_request_duration_seconds_bucket[$__rate_interval]))"
    cost = "sum(increase(trellis_model_cost_usd_total[1h]))"
    found = (
        good(width=12),
        heatmap("Times", TOLD, "s", Query(buckets), width=12),
        bars("Bars", TOLD, "none", Query(GOOD, "{{route}}"), width=24),
        table("Table", TOLD, Query(GOOD, "rate"), width=24, columns={"route": "string", "rate": "reqps"}),
        figure(cost),
    )
    assert lint(built(*found, collapsed=collapsed), names) == []


def test_panels_of_one_name_or_in_one_place_are_named(names: Mapping[str, Metric]) -> None:
    twice = built(good(), good())
    assert lint(twice, names) == ["two panels are called 'Requests'"]
    twice["panels"][2].update(title="Other", gridPos=twice["panels"][1]["gridPos"])
    assert "panels overlap from line 1 on" in lint(twice, names)


def test_a_datasource_that_is_no_variable_is_named(names: Mapping[str, Metric]) -> None:
    fixed = built(good())
    fixed["panels"][1]["targets"][0]["datasource"]["uid"] = "PBFA97CFB590B2093"
    assert lint(fixed, names) == ["Requests: datasource PBFA97CFB590B2093 is no variable"]
    fixed = built(good())
    fixed["templating"]["list"] = []
    assert len(lint(fixed, names)) == 3


def test_a_variable_of_a_dead_label_is_named(names: Mapping[str, Metric]) -> None:
    rows = [Row("R", [good()])]
    dead = label_variable("pack", "pack", "trellis_http_requests_total")
    found = json.loads(document(board("x", "X", "A board.", tags=[], rows=rows, variables=[dead])))
    assert "nothing exposes trellis_http_requests_total with a label pack" in lint(found, names)[0]


def test_a_target_line_without_its_query_is_named(names: Mapping[str, Metric]) -> None:
    panel = series("A", TOLD, "s", Query(TOTAL, "a"), width=24, target="vector(1)", target_name="limit")
    found = built(panel)
    del found["panels"][1]["targets"][1]
    assert lint(found, names) == ["A: no line is called limit"]
