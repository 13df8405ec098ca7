"""How panels and boards become Grafana's JSON."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from dashboards.src.house import Panel, Query, Row, board, document, heatmap, note, series, stat, states, table

ONE = Query("vector(1)", "one")


def built(*rows: Row, **more: Any) -> dict[str, Any]:
    return json.loads(document(board("x", "X", "A board.", tags=["a"], rows=rows, **more)))


def panel(found: Panel) -> dict[str, Any]:
    return built(Row("R", [found]))["panels"][1]


def test_panels_stand_side_by_side_and_wrap_below_the_highest() -> None:
    row = Row("R", [note("a", width=12, height=3), note("b", width=12, height=5), note("c", width=24)])
    places = [found["gridPos"] for found in built(row, Row("S", [note("d")]))["panels"]]
    assert [(place["x"], place["y"]) for place in places] == [(0, 0), (0, 1), (12, 1), (0, 6), (0, 9), (0, 10)]


def test_a_collapsed_row_holds_its_panels_and_takes_one_line() -> None:
    first, heading, _panel = built(Row("R", [note("a")], collapsed=True), Row("S", [note("b")]))["panels"]
    assert [found["options"]["content"] for found in first["panels"]] == ["a"]
    assert (first["collapsed"], heading["gridPos"]["y"]) == (True, 1)


def test_a_target_is_a_query_of_its_own_drawn_as_a_dashed_red_line() -> None:
    found = panel(series("A", "B", "s", ONE, target="trellis:target:failed_share", target_name="limit"))
    assert [(t["refId"], t["expr"], t["legendFormat"]) for t in found["targets"]] == [
        ("A", "vector(1)", "one"),
        ("B", "trellis:target:failed_share", "limit"),
    ]
    (override,) = found["fieldConfig"]["overrides"]
    set_to = {value["id"]: value["value"] for value in override["properties"]}
    assert override["matcher"] == {"id": "byName", "options": "limit"}
    assert (set_to["color"]["fixedColor"], set_to["custom.lineStyle"]["fill"]) == ("red", "dash")


def test_the_first_colour_of_a_figure_counts_from_the_bottom() -> None:
    found = panel(stat("A", "B", "s", ONE, steps=[(0, "red"), (0.5, "green")]))
    assert found["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
        {"color": "red", "value": None},
        {"color": "green", "value": 0.5},
    ]


@pytest.mark.parametrize("number", [1, 2])
def test_a_table_names_its_values_by_the_legends(number: int) -> None:
    queries = [Query("vector(1)", "rate"), Query("vector(2)", "share")][:number]
    found = panel(table("A", "B", *queries, columns={"route": "string", "rate": "reqps"}, links={"route": "/r"}))
    organised = found["transformations"][1]["options"]
    names = {"Value": "rate"} if number == 1 else {"Value #A": "rate", "Value #B": "share"}
    assert organised["renameByName"] == names
    assert organised["indexByName"]["route"] == 0
    assert {(t["format"], t["instant"]) for t in found["targets"]} == {("table", True)}
    route = found["fieldConfig"]["overrides"][0]["properties"]
    assert {value["id"] for value in route} == {"unit", "links"}


def test_lines_heatmaps_and_states_ask_over_time() -> None:
    shown = (
        series("A", "B", "s", ONE),
        heatmap("A", "B", "s", ONE),
        states("A", "B", ONE, colours={0: ("ok", "green")}),
    )
    assert [panel(found)["targets"][0]["range"] for found in shown] == [True] * 3


def test_the_page_for_traces_and_logs_is_asked_by_variable_and_for_the_time_shown() -> None:
    links = {link["title"]: link.get("url", "") for link in built(Row("R", []))["links"]}
    for title, source in (("Traces", "${traces}"), ("Logs", "${logs}")):
        pane = json.loads(parse_qs(urlsplit(links[title]).query)["panes"][0])["t"]
        assert (pane["datasource"], pane["range"]["from"]) == (source, "${__from}")


def test_a_board_shows_as_far_back_as_it_says() -> None:
    assert built(Row("R", []), since="now-7d")["time"] == {"from": "now-7d", "to": "now"}
