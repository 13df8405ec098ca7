"""The whole dashboard as one picture: its head, the alerts of the time, and every panel in its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import matplotlib as mpl
import numpy as np

from dashboards.render.alerts import LINE_H, Line, alert_lines, draw_alerts, height_of
from dashboards.render.canvas import SMALL, TEXT, TITLE, Box, Canvas
from dashboards.render.colours import FAINT, GREEN, GROUND, INK, PAPER, QUIET, RED
from dashboards.render.gather import BoardData, PanelData, Span
from dashboards.render.grafana import COLUMNS
from dashboards.render.lines import draw_heatmap, draw_series, draw_states
from dashboards.render.prometheus import Window
from dashboards.render.tiles import draw_bars, draw_stat, draw_table, draw_text, draw_words
from dashboards.render.units import humane

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

UNIT: Final = 44
"""Pixels of one row of the grid."""
_EDGE: Final = 20
_GAP: Final = 12
_ROW_H: Final = 48
_HEAD_H: Final = 84
_HEADING: Final = 24
_NAME: Final = 32
_KINDS: Final = {
    "timeseries": draw_series,
    "graph": draw_series,
    "heatmap": draw_heatmap,
    "state-timeline": draw_states,
    "status-history": draw_states,
    "stat": draw_stat,
    "gauge": draw_stat,
    "bargauge": draw_bars,
    "barchart": draw_bars,
    "piechart": draw_bars,
    "table": draw_table,
}


@dataclass(frozen=True, slots=True)
class Picture:
    """The pixels of the board, and where the head and each panel (in the board's order) are on it."""

    pixels: Pixels
    head: Box
    panels: Sequence[Box]

    def part(self, box: Box) -> Pixels:
        return self.pixels[round(box.y) : round(box.bottom), round(box.x) : round(box.right)]


def draw(data: BoardData, width: int) -> Picture:
    """Draws a board `width` pixels wide; as high as it needs."""
    alerts = alert_lines(data.spans)
    head = _HEAD_H + (height_of(alerts) + 12 if alerts else LINE_H if data.watched else 0)
    places, titles, height = _laid(data, width, head + _EDGE)
    # Nothing of a person's own matplotlib configuration may change a picture.
    with mpl.rc_context(rc=mpl.rcParamsDefault | {"text.parse_math": False, "path.sketch": None}):
        canvas = Canvas(width, round(height))
        canvas.box(Box(0, 0, width, height), GROUND)
        _head(canvas, data, alerts)
        for title, y in titles:
            fitted = canvas.fitted(title, width - 2 * _EDGE, _HEADING, True)
            canvas.text(_EDGE, y + _ROW_H / 2, fitted, _HEADING, INK, bold=True)
        for panel, box in zip(data.panels, places, strict=True):
            _panel(canvas, box, panel, data.window, data.spans)
        return Picture(canvas.pixels(), Box(0, 0, width, head + _EDGE), places)


def _laid(data: BoardData, width: int, top: float) -> tuple[Sequence[Box], Sequence[tuple[str, float]], float]:
    """Where each panel is, the rows' titles with their heights, and where it all ends."""
    places, titles, y = list[Box](), list[tuple[str, float]](), top
    column = (width - 2 * _EDGE + _GAP) / COLUMNS
    for section in data.board.sections:
        if section.title:
            titles.append((section.title, y))
            y += _ROW_H
        first = min((panel.place.y for panel in section.panels), default=0)
        for panel in section.panels:
            place = panel.place
            top_left = (round(_EDGE + place.x * column), round(y + (place.y - first) * UNIT))
            right = round(_EDGE + (place.x + place.w) * column - _GAP)
            places.append(Box(*top_left, right - top_left[0], place.h * UNIT - _GAP))
        y += section.height * UNIT
    return places, titles, y + _EDGE - _GAP


def _head(canvas: Canvas, data: BoardData, alerts: Sequence[Line]) -> None:
    window = data.window
    begun, ended = (datetime.fromtimestamp(time, UTC) for time in (window.start, window.end))
    form = "%H:%M" if begun.date() == ended.date() else "%-d %b %H:%M"
    when = f"{begun:%-d %b %Y, %H:%M} to {ended.strftime(form)} UTC ({humane(window.length, 's')})"
    canvas.text(canvas.width - _EDGE, 34, when, TEXT, QUIET, across="right")
    room = canvas.width - 3 * _EDGE - canvas.length(when, TEXT)
    canvas.text(_EDGE, 34, canvas.fitted(data.board.title, room, _NAME, True), _NAME, INK, bold=True)
    canvas.text(_EDGE, 68, canvas.fitted(data.board.description, canvas.width - 2 * _EDGE), TEXT, QUIET)
    if alerts:
        draw_alerts(canvas, Box(_EDGE, _HEAD_H + 8, canvas.width - 2 * _EDGE, height_of(alerts)), window, alerts)
    elif data.watched:
        canvas.text(_EDGE, _HEAD_H + 18, "No alert was pending or firing.", TEXT, GREEN, bold=True)


def _panel(canvas: Canvas, box: Box, data: PanelData, window: Window, spans: Sequence[Span]) -> None:
    panel = data.panel
    canvas.box(box, PAPER, FAINT, round_by=6)
    inner = box.inset(14, 10, 14, 10)
    if panel.title:
        inner = inner.inset(0, _title(canvas, inner, panel.title), 0, 0)
    if panel.kind == "text":
        draw_text(canvas, inner, data)
    elif panel.source != "prometheus":
        draw_words(canvas, inner, f"Needs {panel.source.title()}: only Prometheus is drawn here.")
    elif data.errors:
        draw_words(canvas, inner, data.errors[0], RED)
    elif panel.kind not in _KINDS:
        draw_words(canvas, inner, f"Panels of type '{panel.kind}' are not drawn here.")
    elif not has_values(data):
        draw_words(canvas, inner, empty(data))
    else:
        _KINDS[panel.kind](canvas, inner, data, window, spans)


def _title(canvas: Canvas, box: Box, title: str) -> float:
    """Draws a title as large as it fits; two lines of it where one is too short. The height taken."""
    for size in (TITLE, TEXT, SMALL):
        if canvas.length(title, size, True) <= box.w:
            canvas.text(box.x, box.y + 13, title, size, INK, bold=True)
            return 34
    first, *rest = canvas.wrapped(title, box.w, SMALL, bold=True)
    canvas.text(box.x, box.y + 10, first, SMALL, INK, bold=True)
    canvas.text(box.x, box.y + 32, canvas.fitted(" ".join(rest), box.w, SMALL, True), SMALL, INK, bold=True)
    return 48


def has_values(data: PanelData) -> bool:
    """Whether anything but targets has a value."""
    return any(value == value for series in data.series if not series.style.dashed for _t, value in series.points)


def empty(data: PanelData) -> str:
    said = data.panel.style.no_value
    return "No data" if not said or said.lower() == "no data" else said
