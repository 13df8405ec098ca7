"""The lint of dashboards: what a board must have so that a person who is called at night can use it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dashboards.src.house import WIDTH
from tests.support.promql import Metric, problems, read

Json = Mapping[str, Any]
_SILENT: Final = frozenset({"row", "text"})
_FIGURES: Final = frozenset({"stat", "table", "bargauge"})
_FOLLOWING: Final = frozenset({"$__rate_interval", "$__range"})
_SOURCES: Final = {"prometheus": "${datasource}", "loki": "${logs}", "tempo": "${traces}"}
_WINDOW: Final = re.compile(r"\[([^\]]+)\]")
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_LEGEND_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LABEL_VALUES: Final = re.compile(r"label_values\(([\w:]+), (\w+)\)")
LEAST_DESCRIPTION: Final = 40


def panels(board: Json) -> list[Json]:
    """Every panel that shows something, also those of collapsed rows."""
    found = [*board["panels"], *(inner for panel in board["panels"] for inner in panel.get("panels", ()))]
    return [panel for panel in found if panel["type"] != "row"]


def lint(board: Json, known: Mapping[str, Metric]) -> list[str]:
    """What is wrong with a board, one sentence each, with the panel's title before it."""
    found = [*_frame(board, known), *_grid(board)]
    for panel in panels(board):
        if panel["type"] not in _SILENT:
            found += [f"{panel['title'] or panel['type']}: {problem}" for problem in _panel(panel, known)]
    return found


def _frame(board: Json, known: Mapping[str, Metric]) -> Iterator[str]:
    for name in ("uid", "title", "description"):
        if not board.get(name):
            yield f"the board has no {name}"
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    for kind, reference in _SOURCES.items():
        if variables.get(reference.strip("${}"), {}).get("query") != kind:
            yield f"the board has no variable {reference} of the type {kind}"
    for variable in variables.values():
        if variable["type"] == "query":
            yield from _variable(variable, known)
    for mark in board["annotations"]["list"]:
        yield from (f"{mark['name']}: {problem}" for problem in problems(mark["expr"], known))
    titles = Counter(panel["title"] for panel in panels(board) if panel["type"] not in _SILENT)
    yield from (f"two panels are called {title!r}" for title, count in titles.items() if count > 1)


def _variable(variable: Json, known: Mapping[str, Metric]) -> Iterator[str]:
    asked = _LABEL_VALUES.fullmatch(variable["query"]["query"])
    if asked is None:
        yield f"variable {variable['name']} does not ask label_values(metric, label)"
    elif asked[1] not in known or asked[2] not in known[asked[1]].labels:
        yield f"variable {variable['name']}: nothing exposes {asked[1]} with a label {asked[2]}"
    if variable["datasource"]["uid"] != _SOURCES["prometheus"]:
        yield f"variable {variable['name']} has a fixed datasource"


def _grid(board: Json) -> Iterator[str]:
    """Every cell of the lines that a section uses belongs to exactly one panel."""
    shown = [panel for panel in board["panels"] if not (panel["type"] == "row" and panel["collapsed"])]
    for section in (shown, *(panel["panels"] for panel in board["panels"] if panel.get("collapsed"))):
        cells = Counter(cell for panel in section for cell in _cells(panel["gridPos"]))
        if any(x >= WIDTH for x, _y in cells):
            yield f"a panel reaches beyond column {WIDTH}"
        overlaps = sorted({y for (_x, y), count in cells.items() if count > 1})
        if overlaps:
            yield f"panels overlap from line {overlaps[0]} on"
        lines = sorted({y for _x, y in cells})
        gaps = [str(line) for line in lines if len({x for x, y in cells if y == line}) < WIDTH]
        if gaps:
            yield f"not full: lines {', '.join(gaps)}"


def _cells(place: Json) -> Iterator[tuple[int, int]]:
    for x in range(place["x"], place["x"] + place["w"]):
        yield from ((x, y) for y in range(place["y"], place["y"] + place["h"]))


def _panel(panel: Json, known: Mapping[str, Metric]) -> Iterator[str]:
    if not panel["title"]:
        yield "no title"
    if len(panel["description"]) < LEAST_DESCRIPTION:
        yield "no description of use"
    yield from _units(panel)
    for part in (panel, *panel["targets"]):
        source = part["datasource"]
        if _SOURCES.get(source.get("type")) != source.get("uid"):
            yield f"datasource {source.get('uid')} is no variable"
    if panel["datasource"]["type"] == "prometheus":
        yield from _queries(panel, known)


def _units(panel: Json) -> Iterator[str]:
    settings = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    if panel["type"] == "table":
        without = (column for column in _columns(panel) if column not in _overridden(settings, "unit"))
        yield from (f"column {column} has no unit" for column in without)
    elif panel["type"] == "heatmap":
        if not panel["options"].get("yAxis", {}).get("unit"):
            yield "no unit"
    elif panel["type"] != "logs" and not settings["defaults"].get("unit"):
        yield "no unit"


def _overridden(settings: Json, setting: str) -> set[str]:
    return {
        override["matcher"]["options"]
        for override in settings["overrides"]
        if any(value["id"] == setting and value["value"] for value in override["properties"])
    }


def _columns(panel: Json) -> list[str]:
    chosen = (step["options"]["include"]["names"] for step in panel["transformations"] if "include" in step["options"])
    return next(chosen, [])


def _queries(panel: Json, known: Mapping[str, Metric]) -> Iterator[str]:
    labels: set[str] = set()
    for target in panel["targets"]:
        wrong = problems(target["expr"], known)
        yield from (*wrong, *_windows(panel, target["expr"]))
        if not wrong:
            left = read(target["expr"], known).shape.labels
            labels |= left
            yield from _legend(panel, target["legendFormat"], left)
    legends = Counter(target["legendFormat"] for target in panel["targets"])
    for legend, count in legends.items():
        if count > 1 or (not legend and len(panel["targets"]) > 1):
            yield f"two lines are called {legend!r}"
    if panel["type"] == "table":
        shown = labels | legends.keys()
        yield from (f"no query gives a column {column}" for column in _columns(panel) if column not in shown)
    for name in sorted(_overridden(panel.get("fieldConfig", {"overrides": []}), "custom.lineStyle") - legends.keys()):
        yield f"no line is called {name}"


def _windows(panel: Json, expr: str) -> Iterator[str]:
    """The window of a line follows its step; a figure or a table may name its own."""
    for window in _WINDOW.findall(_QUOTED.sub("", expr)):
        if window not in _FOLLOWING and panel["type"] not in _FIGURES:
            yield f"[{window}] instead of [$__rate_interval]"


def _legend(panel: Json, legend: str, labels: frozenset[str]) -> Iterator[str]:
    if panel["type"] in ("table", "heatmap"):
        return
    named = set(_LEGEND_LABEL.findall(legend))
    yield from (f"the legend names {label}, which the query does not leave" for label in sorted(named - labels))
    if panel["type"] == "stat":
        if labels:
            yield f"several figures in one: the query leaves {', '.join(sorted(labels))}"
    elif labels and not named:
        yield f"the legend names none of {', '.join(sorted(labels))}"
