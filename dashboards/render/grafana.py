"""A dashboard as Grafana's JSON has it, read as far as a picture needs it."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

COLUMNS: Final = 24
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One query. `instant`: only its value at the end is asked for. `shape`: time_series, table or heatmap."""

    ref: str
    expr: str
    legend: str = ""
    instant: bool = False
    exemplars: bool = False
    interval: str = ""
    shape: str = "time_series"


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a value is called. `holds` is closed on both sides; `colour` is a name of Grafana's or empty."""

    low: float
    high: float
    text: str
    colour: str = ""

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Style:
    """How the values of one series are shown. `steps`: (from, colour), rising, the first from minus infinity."""

    unit: str = "short"
    decimals: int | None = None
    colour: str = ""
    dashed: bool = False
    name: str = ""
    hidden: bool = False
    steps: Sequence[tuple[float, str]] = ()
    mapped: Sequence[Mapped] = ()
    least: float | None = None
    most: float | None = None
    no_value: str = ""

    def step(self, value: float) -> int:
        """Which of `steps` a value has reached."""
        return max((number for number, (low, _colour) in enumerate(self.steps) if value >= low), default=0)

    def mapping(self, value: float) -> Mapped | None:
        return next((each for each in self.mapped if each.holds(value)), None)


@dataclass(frozen=True, slots=True)
class Place:
    """On the grid: 24 columns, rows counted from the top."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Panel:
    """`kind` is Grafana's type of panel. `overrides`: a matcher and what it changes, as Grafana has them."""

    id: int
    kind: str
    title: str
    description: str
    place: Place
    targets: Sequence[Target] = ()
    style: Style = Style()
    overrides: Sequence[Json] = ()
    options: Json = field(default_factory=dict)
    stacked: bool = False
    interval: str = ""
    transformations: Sequence[Json] = ()
    source: str = "prometheus"

    def style_of(self, name: str, ref: str = "") -> Style:
        """For the series (or the column) of a name."""
        style = self.style
        for override in self.overrides:
            if _matches(override.get("matcher", {}), name, ref):
                style = _changed(style, override.get("properties", ()))
        return style


@dataclass(frozen=True, slots=True)
class Section:
    """The panels of one row; the first may have no title."""

    title: str
    panels: Sequence[Panel]

    @property
    def height(self) -> int:
        top = min((panel.place.y for panel in self.panels), default=0)
        return max((panel.place.y + panel.place.h for panel in self.panels), default=0) - top


@dataclass(frozen=True, slots=True)
class Variable:
    """`value` is what stands for it where the person chose nothing; empty: the first of what `query` finds."""

    name: str
    value: str
    query: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """An annotation: a mark wherever `expr` gives a value that is not 0."""

    name: str
    expr: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    uid: str
    title: str
    description: str
    sections: Sequence[Section]
    variables: Sequence[Variable] = ()
    events: Sequence[Event] = ()

    @property
    def panels(self) -> Sequence[Panel]:
        return [panel for section in self.sections for panel in section.panels]

    def only(self, wanted: str) -> "Board":
        """With the panels alone whose title holds one of the comma-separated words; each line filled by what is left.

        Raises ValueError where no panel has any.
        """
        words = [word.strip().lower() for word in wanted.split(",") if word.strip()]
        kept = [
            Section(
                section.title, _flowing([p for p in section.panels if any(word in p.title.lower() for word in words)])
            )
            for section in self.sections
        ]
        kept = [section for section in kept if section.panels]
        if not kept:
            titles = ", ".join(panel.title for panel in self.panels)
            raise ValueError(f"no panel of {self.uid} has '{wanted}' in its title; there are: {titles}")
        return replace(self, sections=kept)


def read_board(document: Json) -> Board:
    """Raises ValueError where it is no dashboard."""
    if not isinstance(document.get("panels"), list):
        raise ValueError("this is no dashboard of Grafana: it has no panels")
    return Board(
        uid=str(document.get("uid") or "dashboard"),
        title=str(document.get("title", "")),
        description=str(document.get("description") or ""),
        sections=list(_sections(document["panels"])),
        variables=[_variable(each) for each in document.get("templating", {}).get("list", ()) if _is_choice(each)],
        events=list(_events(document.get("annotations", {}).get("list", ()))),
    )


def _sections(panels: Sequence[Json]) -> Iterator[Section]:
    """Rows as sections. What a collapsed row hides is shown: a picture cannot be clicked."""
    title, held = "", list[Panel]()
    for each in panels:
        if each.get("type") != "row":
            held.append(_panel(each))
            continue
        if held:
            yield Section(title, held)
        title, held = str(each.get("title", "")), [_panel(inner) for inner in each.get("panels") or ()]
    if held:
        yield Section(title, held)


def _panel(document: Json) -> Panel:
    config = document.get("fieldConfig") or {}
    defaults = config.get("defaults") or {}
    custom = defaults.get("custom") or {}
    grid = document.get("gridPos") or {}
    targets = document.get("targets") or ()
    sources = [
        (each or {}).get("type", "") for each in (document.get("datasource"), *[t.get("datasource") for t in targets])
    ]
    return Panel(
        id=int(document.get("id") or 0),
        kind=str(document.get("type", "")),
        title=str(document.get("title") or ""),
        description=str(document.get("description") or ""),
        place=Place(*(int(grid.get(name, least)) for name, least in (("x", 0), ("y", 0), ("w", 8), ("h", 8)))),
        targets=[_target(each) for each in targets if each.get("expr") and not each.get("hide")],
        style=_style(defaults),
        overrides=config.get("overrides") or (),
        options=document.get("options") or {},
        stacked=(custom.get("stacking") or {}).get("mode") in ("normal", "percent"),
        interval=str(document.get("interval") or ""),
        transformations=document.get("transformations") or (),
        source=next((name for name in sources if name and name != "datasource"), "prometheus"),
    )


def _target(document: Json) -> Target:
    return Target(
        ref=str(document.get("refId", "A")),
        expr=str(document["expr"]),
        legend=str(document.get("legendFormat") or ""),
        instant=bool(document.get("instant")) and not document.get("range"),
        exemplars=bool(document.get("exemplar")),
        interval=str(document.get("interval") or ""),
        shape=str(document.get("format") or "time_series"),
    )


def _style(defaults: Json) -> Style:
    custom, colour = defaults.get("custom") or {}, defaults.get("color") or {}
    steps = (defaults.get("thresholds") or {}).get("steps") or ()
    return Style(
        unit=str(defaults.get("unit") or "short"),
        decimals=defaults.get("decimals"),
        colour=str(colour.get("fixedColor") or "") if colour.get("mode") == "fixed" else "",
        dashed=(custom.get("lineStyle") or {}).get("fill") == "dash",
        name=str(defaults.get("displayName") or ""),
        steps=tuple((_bound(each.get("value"), -math.inf), str(each["color"])) for each in steps),
        mapped=tuple(_mappings(defaults.get("mappings") or ())),
        least=defaults.get("min"),
        most=defaults.get("max"),
        no_value=str(defaults.get("noValue") or ""),
    )


def _mappings(documents: Sequence[Json]) -> Iterator[Mapped]:
    for each in documents:
        options = each.get("options") or {}
        if each.get("type") == "value":
            for value, result in options.items():
                number = _number(value)
                if number is not None:
                    yield _mapped(number, number, result, value)
        elif each.get("type") == "range":
            low, high = _bound(options.get("from"), -math.inf), _bound(options.get("to"), math.inf)
            yield _mapped(low, high, options.get("result") or {}, "")


def _mapped(low: float, high: float, result: Json, otherwise: str) -> Mapped:
    return Mapped(low, high, str(result.get("text") or otherwise), str(result.get("color") or ""))


def _bound(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _matches(matcher: Json, name: str, ref: str) -> bool:
    wanted, kind = matcher.get("options"), matcher.get("id")
    if kind == "byName":
        return wanted == name
    if kind == "byRegexp":
        # Grafana writes a pattern as /pattern/.
        return re.search(str(wanted).strip("/"), name) is not None
    return kind == "byFrameRefID" and wanted == ref


def _changed(style: Style, properties: Sequence[Json]) -> Style:
    for each in properties:
        change = _CHANGES.get(str(each.get("id")))
        if change is not None:
            attribute, read = change
            style = replace(style, **{attribute: read(each.get("value"))})
    return style


_CHANGES: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "unit": ("unit", str),
    "decimals": ("decimals", lambda value: value),
    "displayName": ("name", str),
    "color": ("colour", lambda value: str((value or {}).get("fixedColor") or "")),
    "custom.lineStyle": ("dashed", lambda value: (value or {}).get("fill") == "dash"),
    "custom.hidden": ("hidden", bool),
    "mappings": ("mapped", lambda value: tuple(_mappings(value or ()))),
    "thresholds": ("steps", lambda value: _style({"thresholds": value}).steps),
}
"""What an override of Grafana's changes of a style, and how its value is read."""


def _is_choice(document: Json) -> bool:
    return document.get("type") in ("query", "custom", "interval", "constant", "textbox")


def _variable(document: Json) -> Variable:
    """All of them where all can be chosen, else what the dashboard has as chosen."""
    name, query = str(document["name"]), document.get("query") or ""
    query = str(query.get("query") or "") if isinstance(query, dict) else str(query)
    chosen = (document.get("current") or {}).get("value")
    if document.get("includeAll"):
        return Variable(name, str(document.get("allValue") or ".*"))
    if isinstance(chosen, list):
        chosen = "|".join(map(str, chosen))
    if chosen:
        return Variable(name, str(chosen))
    if document["type"] == "query":
        return Variable(name, "", query)
    return Variable(name, query.split(",")[0].rpartition(" : ")[2].strip())


def _events(documents: Sequence[Json]) -> Iterator[Event]:
    for each in documents:
        target = each.get("target") or {}
        expr = each.get("expr") or target.get("expr")
        # Alerts are drawn on every dashboard, whether it asks for them or not.
        if expr and each.get("enable", True) and not re.search(r"\bALERTS\b", expr):
            text = each.get("textFormat") or each.get("titleFormat") or target.get("legendFormat") or ""
            yield Event(str(each.get("name") or ""), str(expr), str(text))


def _flowing(panels: Sequence[Panel]) -> Sequence[Panel]:
    """Placed anew from left to right, each line as wide as the grid."""
    lines: list[list[Panel]] = []
    for panel in panels:
        if not lines or sum(each.place.w for each in lines[-1]) + panel.place.w > COLUMNS:
            lines.append([])
        lines[-1].append(panel)
    placed, top = list[Panel](), 0
    for line in lines:
        wide, x = sum(panel.place.w for panel in line), 0
        for number, panel in enumerate(line):
            width = COLUMNS - x if number == len(line) - 1 else panel.place.w * COLUMNS // wide
            placed.append(replace(panel, place=Place(x, top, width, panel.place.h)))
            x += width
        top += max(panel.place.h for panel in line)
    return placed
