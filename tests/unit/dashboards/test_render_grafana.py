"""Grafana's JSON, as far as a picture needs it."""

import math

import pytest

from dashboards.render.grafana import Style, read_board
from tests.support.boards import board, panel, row


def test_rows_are_sections_and_what_a_collapsed_one_hides_is_shown() -> None:
    hidden = panel("timeseries", "c", title="Hidden", y=3)
    found = read_board(board(panel("stat", "a"), row("Open"), panel("stat", "b"), row("Closed", hidden)))
    assert [(section.title, [p.title for p in section.panels]) for section in found.sections] == [
        ("", ["A panel"]),
        ("Open", ["A panel"]),
        ("Closed", ["Hidden"]),
    ]


def test_only_some_panels_fill_their_lines_anew() -> None:
    panels = [
        panel("stat", "a", title=title, x=x) for title, x in (("Requests", 0), ("Memory", 8), ("Failed requests", 16))
    ]
    kept = read_board(board(*panels)).only("requests")
    assert [(p.title, p.place.x, p.place.w) for p in kept.panels] == [("Requests", 0, 12), ("Failed requests", 12, 12)]


def test_words_that_no_title_has_are_refused_with_the_titles_there_are() -> None:
    with pytest.raises(ValueError, match="there are: A panel"):
        read_board(board(panel("stat", "a"))).only("nothing")


def test_what_is_no_dashboard_is_refused() -> None:
    with pytest.raises(ValueError, match="no dashboard"):
        read_board({"title": "x"})


def test_thresholds_begin_at_minus_infinity_and_a_value_has_its_step() -> None:
    steps = [{"color": "green", "value": None}, {"color": "red", "value": 0.05}]
    style = read_board(board(panel("stat", "a", defaults={"thresholds": {"steps": steps}}))).panels[0].style
    assert style.steps == ((-math.inf, "green"), (0.05, "red"))
    assert [style.step(value) for value in (-1.0, 0.049, 0.05, 7.0)] == [0, 0, 1, 1]


def test_overrides_change_the_series_that_they_name_and_no_other() -> None:
    dash = {"id": "custom.lineStyle", "value": {"fill": "dash"}}
    red = {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}}
    overrides = [
        {"matcher": {"id": "byName", "options": "target"}, "properties": [dash, red]},
        {"matcher": {"id": "byRegexp", "options": "/5../"}, "properties": [{"id": "unit", "value": "percent"}]},
        {"matcher": {"id": "byFrameRefID", "options": "B"}, "properties": [{"id": "decimals", "value": 1}]},
    ]
    found = read_board(board(panel("timeseries", "a", unit="s", overrides=overrides))).panels[0]
    assert found.style_of("target") == Style("s", colour="red", dashed=True)
    assert found.style_of("500").unit == "percent"
    assert found.style_of("other", "B").decimals == 1
    assert found.style_of("other") == Style("s")


def test_values_and_ranges_are_called_by_their_names() -> None:
    mappings = [
        {"type": "value", "options": {"0": {"text": "closed", "color": "green"}, "null": {"text": "gone"}}},
        {"type": "range", "options": {"from": 1, "to": None, "result": {"text": "open", "color": "red"}}},
    ]
    style = read_board(board(panel("stat", "a", defaults={"mappings": mappings}))).panels[0].style
    closed, opened = style.mapping(0), style.mapping(7)
    assert closed is not None
    assert opened is not None
    assert (closed.text, opened.text) == ("closed", "open")
    assert style.mapping(0.5) is None


def test_variables_stand_for_all_where_all_can_be_chosen_else_for_what_is_chosen() -> None:
    variables = [
        {"type": "datasource", "name": "datasource", "query": "prometheus"},
        {
            "type": "query",
            "name": "pack",
            "includeAll": True,
            "allValue": ".+",
            "query": {"query": "label_values(x, pack)"},
        },
        {"type": "query", "name": "job", "current": {"value": ["a", "b"]}, "query": "label_values(x, job)"},
        {"type": "query", "name": "first", "query": "label_values(x, first)"},
        {"type": "custom", "name": "share", "query": "half : 0.5,whole : 1"},
    ]
    found = read_board(board(variables=variables)).variables
    assert [(v.name, v.value) for v in found] == [("pack", ".+"), ("job", "a|b"), ("first", ""), ("share", "0.5")]
    assert found[2].query == "label_values(x, first)"


def test_annotations_of_alerts_are_left_out_because_alerts_are_always_drawn() -> None:
    asked = [
        {"name": "deploys", "expr": "changes(v[1m])", "titleFormat": "{{version}}"},
        {"name": "a", "expr": "ALERTS"},
    ]
    assert [event.name for event in read_board(board(annotations=asked)).events] == ["deploys"]
