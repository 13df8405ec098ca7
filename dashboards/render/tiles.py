"""Panels of the moment: figures, bars, tables; and those that only say something."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dashboards.render.canvas import SMALL, TEXT, Box, Canvas
from dashboards.render.colours import FAINT, GREEN, GROUND, INK, PAPER, QUIET, RED, colour, tint
from dashboards.render.gather import PanelData, Series, Span
from dashboards.render.grafana import Style
from dashboards.render.lines import series_colours
from dashboards.render.prometheus import Window
from dashboards.render.units import humane

_ROW_H: Final = 32
_TILE_W: Final = 100
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS: Final = re.compile(r"[*_`]{1,3}(\S(?:.*?\S)?)[*_`]{1,3}")


def draw_stat(canvas: Canvas, box: Box, data: PanelData, window: Window, _spans: Sequence[Span]) -> None:
    """Big numbers, side by side. A step that is not the first has the ground of its colour; red is filled."""
    shown = [series for series in data.series if not math.isnan(series.last)]
    room = max(1, int(box.w // _TILE_W))
    kept = shown if len(shown) <= room else shown[: max(1, room - 1)]
    count = len(kept) + (len(shown) > len(kept))
    width = box.w / count
    for number, series in enumerate(kept):
        place = Box(box.x + number * width, box.y, width - (6 if number < count - 1 else 0), box.h)
        _tile(canvas, place, series, window, named=len(shown) > 1)
    if len(shown) > len(kept):
        x = box.right - width / 2
        canvas.text(x, box.y + box.h / 2, f"+{len(shown) - len(kept)}", TEXT, QUIET, across="center")


def written(series: Series) -> tuple[str, str]:
    """A series's last value as it is shown, and the colour of the step it has reached (ink where there is none)."""
    known = series.style.mapping(series.last)
    text = known.text if known and known.text else humane(series.last, series.style.unit, series.style.decimals)
    if known and known.colour:
        return text, colour(known.colour)
    steps = series.style.steps
    return text, colour(steps[series.style.step(series.last)][1]) if steps else INK


def _tile(canvas: Canvas, box: Box, series: Series, window: Window, named: bool) -> None:
    text, strong = written(series)
    alarming = strong == RED
    fill = RED if alarming else tint(strong) if strong != INK else PAPER
    if fill != PAPER:
        canvas.box(box, fill, round_by=5)
    ink = PAPER if alarming else strong if strong != GREEN else "#14532d"
    room = box.h - (24 if named else 0)
    size = next(
        (s for s in (60, 52, 46, 40, 34, 30, 26, 22) if canvas.length(text, s, True) < box.w - 20 and s < room), TEXT
    )
    has_line = len(series.points) > 2 and room > size + 44
    y = box.y + (room - (34 if has_line else 0)) / 2
    canvas.text(box.x + box.w / 2, y, canvas.fitted(text, box.w - 8, size, True), size, ink, bold=True, across="center")
    if has_line:
        _spark(canvas, Box(box.x + 10, box.y + room - 42, box.w - 20, 34), series, window, ink)
    if named:
        canvas.text(
            box.x + box.w / 2,
            box.bottom - 14,
            canvas.fitted(series.name, box.w - 8, SMALL),
            SMALL,
            ink,
            across="center",
        )


def _spark(canvas: Canvas, box: Box, series: Series, window: Window, ink: str) -> None:
    """Its way there: no axes, only whether it rose or fell."""
    axes = canvas.axes(box)
    times, heights = zip(*[(t, v) for t, v in series.points if math.isfinite(v)], strict=True)
    axes.set_xlim(window.start, window.end)
    low, high = min(heights), max(heights)
    pad = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    axes.set_ylim(low - pad, high + pad)
    axes.plot(times, heights, color=ink, alpha=0.55, linewidth=2)


def draw_bars(canvas: Canvas, box: Box, data: PanelData, _window: Window, _spans: Sequence[Span]) -> None:
    """One bar a series, the longest first; its value at its end."""
    shown = sorted((s for s in data.series if math.isfinite(s.last)), key=lambda s: (-s.last, s.name))
    rows = max(1, int(box.h // _ROW_H))
    kept = shown if len(shown) <= rows else shown[: rows - 1]
    colours = series_colours(sorted(shown, key=lambda s: s.name))
    names = min(max(canvas.length(series.name, SMALL) for series in kept), box.w * 0.45)
    values = max(canvas.length(written(series)[0], SMALL, True) for series in kept)
    room = box.w - names - values - 26
    top = max(max((series.last for series in kept), default=0.0), 1e-12)
    height = min(54.0, box.h / (len(kept) + (len(shown) > len(kept))))
    for number, series in enumerate(kept):
        y = box.y + number * height
        length = max(2.0, room * max(0.0, series.last) / top)
        canvas.text(box.x + names, y + height / 2, canvas.fitted(series.name, names, SMALL), SMALL, INK, across="right")
        canvas.box(Box(box.x + names + 10, y + height * 0.18, length, height * 0.64), colours[series.name])
        canvas.text(box.x + names + length + 18, y + height / 2, written(series)[0], SMALL, INK, bold=True)
    if len(shown) > len(kept):
        canvas.text(box.x + names + 10, box.bottom - height / 2, f"and {len(shown) - len(kept)} more", SMALL, QUIET)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table's columns and, for each row, what is written and its colour."""

    columns: Sequence[str]
    rows: Sequence[Sequence[tuple[str, str]]]
    numeric: Sequence[bool]


def grid(data: PanelData) -> Grid:
    """The answers of all queries, joined by their labels and arranged as the panel's transformations say."""
    refs = list(dict.fromkeys(target.ref for target in data.panel.targets))
    joined: dict[tuple[tuple[str, str], ...], dict[str, str | float]] = {}
    for series in data.series:
        labels = {name: value for name, value in series.labels.items() if name != "__name__"}
        row = joined.setdefault(tuple(sorted(labels.items())), {**labels})
        row["Value" if len(refs) == 1 else f"Value #{series.ref}"] = series.last
    columns = list(
        dict.fromkeys(name for row in joined.values() for name in sorted(row, key=lambda n: (n.startswith("Value"), n)))
    )
    shown = _arranged(columns, data.panel.transformations)
    numeric = [any(isinstance(row.get(before), float) for row in joined.values()) for before, _name in shown]
    rows = [[_cell(row.get(before), data.panel.style_of(name)) for before, name in shown] for row in joined.values()]
    return Grid([name for _before, name in shown], rows, numeric)


def _arranged(columns: Sequence[str], transformations: Sequence[Mapping[str, object]]) -> list[tuple[str, str]]:
    """(column of the answer, its name on the panel), from left to right."""
    shown = [(name, name) for name in columns]
    for each in transformations:
        options = each.get("options")
        if not isinstance(options, dict):
            continue
        if each.get("id") == "organize":
            order = options.get("indexByName") or {}
            hidden, renamed = options.get("excludeByName") or {}, options.get("renameByName") or {}
            shown = sorted(
                (pair for pair in shown if not hidden.get(pair[0])), key=lambda pair: order.get(pair[0], len(order))
            )
            shown = [(before, str(renamed.get(before) or name)) for before, name in shown]
        elif each.get("id") == "filterFieldsByName":
            names = (options.get("include") or {}).get("names")
            shown = [pair for pair in shown if names is None or pair[1] in names]
    return shown


def _cell(value: str | float | None, style: Style) -> tuple[str, str]:
    if value is None:
        return "", INK
    if isinstance(value, str):
        return value, INK
    return written(Series("", {}, [(0.0, value)], style, ""))


def draw_table(canvas: Canvas, box: Box, data: PanelData, _window: Window, _spans: Sequence[Span]) -> None:
    """Numbers to the right, words to the left; rows that have no room are counted."""
    found = grid(data)
    widths = _widths(canvas, found, box.w)
    rows = max(1, int(box.h // _ROW_H) - 1)
    kept = found.rows if len(found.rows) <= rows else found.rows[: rows - 1]
    _cells(canvas, box, widths, found.numeric, [(name, QUIET) for name in found.columns], box.y)
    canvas.line(box.x, box.y + _ROW_H, box.right, box.y + _ROW_H, QUIET)
    for number, row in enumerate(kept, 1):
        y = box.y + number * _ROW_H
        if number % 2 == 0:
            canvas.box(Box(box.x, y, box.w, _ROW_H), GROUND)
        _cells(canvas, box, widths, found.numeric, row, y)
    if len(found.rows) > len(kept):
        y = box.y + (len(kept) + 1.5) * _ROW_H
        canvas.text(box.x + 6, y, f"and {len(found.rows) - len(kept)} more rows", SMALL, QUIET)


def _widths(canvas: Canvas, found: Grid, room: float) -> Sequence[float]:
    """Of the columns, together as wide as the table; where there is too little room, the widest give way."""
    wanted = [
        max([canvas.length(name, SMALL), *(canvas.length(row[number][0], SMALL) for row in found.rows)]) + 20
        for number, name in enumerate(found.columns)
    ]
    while sum(wanted) > room and max(wanted) > 60:
        widest = max(range(len(wanted)), key=lambda number: wanted[number])
        wanted[widest] = max(60.0, wanted[widest] - max(4.0, sum(wanted) - room) / 2)
    spare = max(0.0, room - sum(wanted)) / max(1, len(wanted))
    return [width + spare for width in wanted]


def _cells(
    canvas: Canvas, box: Box, widths: Sequence[float], numeric: Sequence[bool], row: Sequence[tuple[str, str]], y: float
) -> None:
    x = box.x
    for (text, ink), width, right in zip(row, widths, numeric, strict=True):
        fitted = canvas.fitted(text, width - 12, SMALL)
        place = x + width - 6 if right else x + 6
        canvas.text(
            place, y + _ROW_H / 2, fitted, SMALL, ink, across="right" if right else "left", bold=ink not in (INK, QUIET)
        )
        x += width


def plain(markdown: str) -> Sequence[tuple[str, bool]]:
    """Lines of a note without their marks, and whether each is a heading."""
    lines = [line.strip() for line in markdown.strip().splitlines()]
    return [(_unmarked(line.lstrip("#").strip()), line.startswith("#")) for line in lines]


def _unmarked(line: str) -> str:
    line = _MARKS.sub(r"\1", _LINK.sub(r"\1", line))
    return f"• {line[2:]}" if line.startswith(("- ", "* ")) else line


def draw_text(canvas: Canvas, box: Box, data: PanelData) -> None:
    y = box.y + 14.0
    for line, heading in plain(str(data.panel.options.get("content") or "")):
        for part in canvas.wrapped(line, box.w, TEXT):
            if y + 10 > box.bottom:
                return
            canvas.text(box.x, y, part, TEXT, INK, bold=heading)
            y += 28
        y += 4


def draw_words(canvas: Canvas, box: Box, words: str, ink: str = QUIET) -> None:
    """A few words in the middle of a panel; red ones on a red ground."""
    lines = canvas.wrapped(words, box.w - 24)
    kept = lines[: max(1, int(box.h // 28))]
    if ink == RED:
        canvas.box(box, tint(RED), FAINT, round_by=5)
    for number, line in enumerate(kept):
        y = box.y + box.h / 2 + (number - (len(kept) - 1) / 2) * 28
        canvas.text(box.x + box.w / 2, y, line, TEXT, ink, across="center")
