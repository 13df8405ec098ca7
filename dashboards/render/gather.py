"""Everything that a picture of a dashboard shows, asked of Prometheus."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dashboards.render.grafana import Board, Event, Panel, Style, Target, Variable
from dashboards.render.interval import filled, seconds, step, times
from dashboards.render.prometheus import Exemplar, Found, Point, Prometheus, QueryFailed, Window

QUIET: Final = frozenset({"none"})
"""Severities that are for machines: no person looks for them on a picture."""
_STANDING: Final = frozenset(
    {"__name__", "alertname", "alertstate", "severity", "team", "phase", "instance", "job"},
)
"""Labels that say nothing about which of several alerts of one name it is."""
_LABEL: Final = re.compile(r"\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Series:
    """One line, bar or tile: the name in the legend, how it looks, its points."""

    name: str
    labels: Mapping[str, str]
    points: Sequence[Point]
    style: Style
    ref: str

    @property
    def last(self) -> float:
        """The newest value that is a number."""
        return next((value for _time, value in reversed(self.points) if value == value), float("nan"))


@dataclass(frozen=True, slots=True)
class PanelData:
    """What one panel shows. `queries`: the expressions as they were asked. `errors`: Prometheus's words."""

    panel: Panel
    series: Sequence[Series]
    exemplars: Sequence[Exemplar]
    errors: Sequence[str]
    queries: Sequence[str]
    step: float


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something held. An alert's has a severity, and is firing or only pending.

    `detail`: the labels that tell alerts of one name apart.
    """

    name: str
    detail: str
    start: float
    end: float
    severity: str = ""
    firing: bool = False

    @property
    def alert(self) -> bool:
        return bool(self.severity)

    @property
    def state(self) -> str:
        return ("firing" if self.firing else "pending") if self.alert else ""


@dataclass(frozen=True, slots=True)
class BoardData:
    """What the whole picture shows, panels in the order of the board. `watched`: there are rules that could alert."""

    board: Board
    window: Window
    panels: Sequence[PanelData]
    spans: Sequence[Span]
    watched: bool
    errors: Sequence[str]
    chosen: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """What is drawn: `step` and `scrape` in seconds, 0 where they follow from the range and from Prometheus.

    `points`: how many each column of the grid has room for. `chosen`: values of variables that a person gave.
    """

    start: float
    end: float
    step: float
    scrape: float
    points: float
    chosen: Mapping[str, str]


async def gather(board: Board, prometheus: Prometheus, request: Request) -> BoardData:
    """Asks all panels at once. Raises Away where Prometheus is; what a query fails with is in the answer."""
    length = request.end - request.start
    scrape = request.scrape or await prometheus.scrape_s()
    window = Window(request.start, request.end, request.step or step(length, round(24 * request.points), scrape))
    chosen = await _choices(board, prometheus, window, request.chosen)
    room = _Room(prometheus, window, request, scrape, chosen)
    panels = list(board.panels)
    found = await asyncio.gather(_spans(room, board.events), asyncio.gather(*(_panel(room, panel) for panel in panels)))
    (spans, watched, errors), asked = found
    failed = [*errors, *(f"{data.panel.title}: {error}" for data in asked for error in data.errors)]
    return BoardData(board, window, asked, spans, watched, failed, chosen)


@dataclass(frozen=True, slots=True)
class _Room:
    prometheus: Prometheus
    window: Window
    request: Request
    scrape: float
    chosen: Mapping[str, str]

    def step(self, panel: Panel, target: Target) -> float:
        least = max((seconds(text) for text in (target.interval, panel.interval) if _fixed(text)), default=0.0)
        own = self.request.step or step(self.window.length, round(panel.place.w * self.request.points), self.scrape)
        return max(own, least)

    def expr(self, text: str, step_s: float) -> str:
        return filled(text, {**self.chosen, **times(self.window.length, step_s, self.scrape)})


def _fixed(text: str) -> bool:
    return bool(text) and "$" not in text and not text.startswith((">", "<"))


async def _choices(board: Board, prometheus: Prometheus, window: Window, given: Mapping[str, str]) -> Mapping[str, str]:
    """The value of each variable. Raises ValueError where a person chose one that the dashboard does not have."""
    unknown = set(given) - {variable.name for variable in board.variables}
    if unknown:
        names = ", ".join(variable.name for variable in board.variables) or "none"
        raise ValueError(f"{board.uid} has no variable '{min(unknown)}'; it has: {names}")
    return {v.name: given.get(v.name) or v.value or await _first(prometheus, v, window) for v in board.variables}


async def _first(prometheus: Prometheus, variable: Variable, window: Window) -> str:
    """The first value of `label_values(metric, label)` at the window's end; all where there is none."""
    asked = re.fullmatch(r"label_values\((.+),\s*(\w+)\)", variable.query.strip())
    if asked is None:
        return ".*"
    try:
        found = await prometheus.at(f"group by ({asked[2]}) ({asked[1]})", window.end)
    except QueryFailed:
        return ".*"
    return min((each.labels[asked[2]] for each in found if asked[2] in each.labels), default=".*")


async def _panel(room: _Room, panel: Panel) -> PanelData:
    if panel.source != "prometheus" or not panel.targets:
        return PanelData(panel, (), (), (), (), room.window.step)
    answers = await asyncio.gather(*(_target(room, panel, target) for target in panel.targets))
    return PanelData(
        panel,
        [series for found, _exemplars, _error, _expr in answers for series in found],
        [exemplar for _found, exemplars, _error, _expr in answers for exemplar in exemplars],
        [error for _found, _exemplars, error, _expr in answers if error],
        [expr for _found, _exemplars, _error, expr in answers],
        max(room.step(panel, target) for target in panel.targets),
    )


async def _target(room: _Room, panel: Panel, target: Target) -> tuple[Sequence[Series], Sequence[Exemplar], str, str]:
    """The series, the exemplars, why there are none, and the expression."""
    step_s = room.step(panel, target)
    expr, window = room.expr(target.expr, step_s), room.window.aligned(step_s)
    exemplars: Sequence[Exemplar] = ()
    try:
        if target.instant:
            found = await room.prometheus.at(expr, room.window.end)
        else:
            found = await room.prometheus.over(expr, window)
        if target.exemplars and not panel.style_of(target.legend, target.ref).dashed:
            exemplars = await room.prometheus.exemplars(expr, window)
    except QueryFailed as error:
        return (), (), str(error), expr
    return [_named(panel, target, each, len(found)) for each in found], exemplars, "", expr


def _named(panel: Panel, target: Target, found: Found, among: int) -> Series:
    name = legend(target, found.labels, among) or panel.title
    style = panel.style_of(name, target.ref)
    return Series(style.name or name, found.labels, found.points, style, target.ref)


def legend(target: Target, labels: Mapping[str, str], among: int) -> str:
    """As Grafana names a series: `{{label}}` by its value, a label that is not there by its own name."""
    if target.legend and target.legend != "__auto":
        return _LABEL.sub(lambda found: labels.get(found[1], found[1]), target.legend)
    shown = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    if among == 1 and not shown:
        return labels.get("__name__", "")
    return f"{labels.get('__name__', '')}{{{shown}}}" if shown else labels.get("__name__", "")


async def _spans(room: _Room, events: Sequence[Event]) -> tuple[Sequence[Span], bool, Sequence[str]]:
    """Alerts and annotations, whether there are rules at all, and what failed."""
    window = room.window.aligned(room.window.step)
    errors: list[str] = []
    spans: list[Span] = []
    watched = False
    try:
        # Watchdog and the like always fire: that they are there says that rules are evaluated.
        found = await room.prometheus.over("ALERTS", window)
        watched = bool(found) or bool(await room.prometheus.at("count(prometheus_rule_group_rules > 0)", window.end))
        spans += [span for each in found for span in _alert_spans(each, window)]
    except QueryFailed as error:
        errors.append(f"Alerts: {error}")
    for event in events:
        try:
            found = await room.prometheus.over(room.expr(event.expr, window.step), window)
        except QueryFailed as error:
            errors.append(f"{event.name}: {error}")
            continue
        spans += [span for each in found for span in _event_spans(event, each, window)]
    return sorted(spans, key=lambda span: (not span.firing, span.start, span.name, span.detail)), watched, errors


def _alert_spans(found: Found, window: Window) -> Sequence[Span]:
    labels = found.labels
    severity = labels.get("severity", "unknown")
    if severity in QUIET:
        return ()
    detail = " ".join(value for label, value in labels.items() if label not in _STANDING)
    firing = labels.get("alertstate") == "firing"
    stretches = held(found.points, window.step)
    return [Span(labels.get("alertname", ""), detail, start, end, severity, firing) for start, end in stretches]


def _event_spans(event: Event, found: Found, window: Window) -> Sequence[Span]:
    text = _LABEL.sub(lambda label: found.labels.get(label[1], ""), event.text) or event.name
    points = [(time, value) for time, value in found.points if value]
    return [Span(text, event.name, start, end) for start, end in held(points, window.step)]


def held(points: Sequence[Point], step_s: float) -> Sequence[tuple[float, float]]:
    """The stretches in which points follow each other without a gap; each ends one step behind its last point."""
    spans: list[tuple[float, float]] = []
    for time, _value in points:
        if spans and time - spans[-1][1] < step_s / 2:
            spans[-1] = spans[-1][0], time + step_s
        else:
            spans.append((time, time + step_s))
    return spans
