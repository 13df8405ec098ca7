"""Panels over time: lines, stacked areas, heat maps, states."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dashboards.render.alerts import marks
from dashboards.render.axis import FLAG, Plot, plot, values
from dashboards.render.canvas import SMALL, TEXT, Box, Canvas, Dashes
from dashboards.render.colours import FAINT, INK, PAPER, PURPLE, QUIET, RED, SERIES, colour, tint
from dashboards.render.gather import PanelData, Series, Span
from dashboards.render.prometheus import Window
from dashboards.render.units import humane

FAR: Final = 4.0
"""A target that is so many times above all values would press them to the ground: it is named, not drawn."""
_LINE_H: Final = 27
_SWATCH: Final = 22
_DOTS: Final = 40


def draw_series(canvas: Canvas, box: Box, data: PanelData, window: Window, spans: Sequence[Span]) -> None:
    shown = [series for series in data.series if not series.style.hidden]
    colours = series_colours(shown)
    below = _legend(canvas, box, shown, colours)
    tops = _tops(data, shown)
    low, high, far = _limits(data, shown, tops)
    style = data.panel.style
    flags = FLAG if spans else 0
    inner = box.inset(0, flags, 0, below)
    found = plot(canvas, inner, window, values(low, high, style.unit, style.decimals), low, high)
    marks(canvas, found, spans)
    if data.panel.stacked:
        _stacked(found, [series for series in shown if not series.style.dashed], colours, data.step)
    for series in shown:
        if series.style.dashed or not data.panel.stacked:
            _line(found, series, colours[series.name], data.step)
    _exemplars(found, data)
    for number, series in enumerate(far):
        text = f"{series.name} {humane(series.last, series.style.unit)} ↑"
        canvas.text(found.box.right - 4, found.box.y + 12 + number * 22, text, SMALL, RED, across="right")


def series_colours(shown: Sequence[Series]) -> Mapping[str, str]:
    """The colour that a dashboard fixed, red for a target, else the next of ours."""
    found: dict[str, str] = {}
    free = iter(SERIES * (len(shown) // len(SERIES) + 1))
    for series in shown:
        if series.name not in found:
            fixed = series.style.colour
            found[series.name] = colour(fixed) if fixed else RED if series.style.dashed else next(free)
    return found


def _tops(data: PanelData, shown: Sequence[Series]) -> float:
    """The highest value that is drawn, targets aside."""
    plain = [series for series in shown if not series.style.dashed]
    if data.panel.stacked and plain:
        return float(np.nanmax(np.nansum([_on(series, _grid(plain)) for series in plain], axis=0), initial=0.0))
    return max((value for series in plain for _t, value in series.points if math.isfinite(value)), default=math.nan)


def _limits(data: PanelData, shown: Sequence[Series], top: float) -> tuple[float, float, list[Series]]:
    """The lowest and highest value of the axis, and the targets far above it."""
    style = data.panel.style
    finite = [value for series in shown for _t, value in series.points if math.isfinite(value)]
    low = min(0.0, min(finite, default=0.0)) if style.least is None else min(style.least, min(finite, default=0.0))
    targets = [series for series in shown if series.style.dashed and math.isfinite(series.last)]
    far = [series for series in targets if top > 0 and series.last > FAR * top]
    near = [max(v for _t, v in series.points if math.isfinite(v)) for series in targets if series not in far]
    high = max([value for value in (top, *near) if math.isfinite(value)], default=1.0)
    high = high + (high - low) * 0.08
    if style.most is not None and top <= style.most:
        high = style.most + (style.most - low) * 0.04
    return low, high if high > low else low + 1.0, far


def _broken(points: Sequence[tuple[float, float]], step: float) -> tuple[list[float], list[float]]:
    """Times and values, with a hole wherever a point is missing."""
    times, found = list[float](), list[float]()
    for time, value in points:
        if times and time - times[-1] > step * 1.5:
            times.append(times[-1] + step)
            found.append(math.nan)
        times.append(time)
        found.append(value if math.isfinite(value) else math.nan)
    return times, found


def _line(found: Plot, series: Series, shade: str, step: float) -> None:
    times, heights = _broken(series.points, step)
    if series.style.dashed:
        found.axes.plot(times, heights, color=shade, linewidth=2.2, linestyle=(0, (6, 4)), zorder=4)
        return
    single = len([height for height in heights if not math.isnan(height)]) == 1
    found.axes.plot(times, heights, color=shade, linewidth=2.4, marker="o" if single else "", markersize=8, zorder=3)


def _grid(shown: Sequence[Series]) -> list[float]:
    return sorted({time for series in shown for time, _value in series.points})


def _on(series: Series, times: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    known = {time: value for time, value in series.points if math.isfinite(value)}
    return np.array([known.get(time, 0.0) for time in times])


def _stacked(found: Plot, shown: Sequence[Series], colours: Mapping[str, str], step: float) -> None:
    times = _grid(shown)
    ground = np.zeros(len(times))
    for series in shown:
        top = ground + _on(series, times)
        shade = colours[series.name]
        found.axes.fill_between(times, ground, top, facecolor=shade, alpha=0.55, linewidth=0, zorder=2)
        found.axes.plot(*_broken(list(zip(times, top, strict=True)), step), color=shade, linewidth=1.6, zorder=3)
        ground = top


def _exemplars(found: Plot, data: PanelData) -> None:
    points = thinned([(exemplar.time, exemplar.value) for exemplar in data.exemplars], found.window)
    if points:
        times, heights = zip(*points, strict=True)
        found.axes.scatter(
            times, heights, s=42, marker="D", facecolors=PAPER, edgecolors=PURPLE, linewidths=1.6, zorder=5
        )


def thinned(points: Sequence[tuple[float, float]], window: Window) -> Sequence[tuple[float, float]]:
    """The highest of each fortieth of the time: the slow ones are looked for."""
    highest: dict[int, tuple[float, float]] = {}
    for time, value in points:
        part = int(window.share(time) * _DOTS)
        if part not in highest or value > highest[part][1]:
            highest[part] = (time, value)
    return list(highest.values())


def _legend(canvas: Canvas, box: Box, shown: Sequence[Series], colours: Mapping[str, str]) -> float:
    """Draws names with their last values at the bottom; returns the height taken."""
    unique = list({series.name: series for series in shown}.values())
    entries = [(series, f"{series.name}  {humane(series.last, series.style.unit)}") for series in unique]
    most = 1 if box.h < 200 else 2 if box.h < 290 else 3
    lines, hidden = packed(canvas, entries, box.w, most)
    height = len(lines) * _LINE_H
    for number, line in enumerate(lines):
        x, y = box.x, box.bottom - height + number * _LINE_H + _LINE_H / 2
        for series, text in line:
            style: Dashes = (0, (3, 2)) if series.style.dashed else "-"
            canvas.line(x, y, x + _SWATCH, y, colours[series.name], 4 if not series.style.dashed else 2.5, style)
            canvas.text(x + _SWATCH + 7, y, text, SMALL, INK)
            x += _entry(canvas, text)
    if hidden:
        canvas.text(box.right, box.bottom - _LINE_H / 2, f"+{hidden}", SMALL, QUIET, across="right")
    return height + (4 if lines else 0)


def _entry(canvas: Canvas, text: str) -> float:
    return _SWATCH + 7 + canvas.length(text, SMALL) + 20


def packed(
    canvas: Canvas, entries: Sequence[tuple[Series, str]], width: float, most: int
) -> tuple[list[list[tuple[Series, str]]], int]:
    """Entries in lines that fit; what has no room is the count behind. Targets and the largest come first then."""
    lines = _filled(canvas, entries, width)
    if len(lines) <= most:
        return lines, 0
    by_size = sorted(entries, key=lambda e: (not e[0].style.dashed, -_size(e[0])))
    for count in range(len(entries) - 1, 0, -1):
        kept = {id(series) for series, _text in by_size[:count]}
        lines = _filled(canvas, [entry for entry in entries if id(entry[0]) in kept], width, 50)
        if len(lines) <= most:
            return lines, len(entries) - count
    return lines[:most], len(entries) - 1


def _size(series: Series) -> float:
    return max((value for _t, value in series.points if math.isfinite(value)), default=-math.inf)


def _filled(
    canvas: Canvas, entries: Sequence[tuple[Series, str]], width: float, kept_free: float = 0.0
) -> list[list[tuple[Series, str]]]:
    lines: list[list[tuple[Series, str]]] = []
    x = math.inf
    for series, text in entries:
        text = canvas.fitted(text, width - _SWATCH - 7 - kept_free, SMALL)
        if x + _entry(canvas, text) - 20 > width - kept_free:
            lines.append([])
            x = 0.0
        lines[-1].append((series, text))
        x += _entry(canvas, text)
    return lines


def draw_heatmap(canvas: Canvas, box: Box, data: PanelData, window: Window, spans: Sequence[Span]) -> None:
    """Buckets from the lowest at the bottom; the darker, the more observations a second."""
    edges = sorted(
        ((float(series.labels["le"]), series) for series in data.series if "le" in series.labels),
        key=lambda pair: pair[0],
    )
    times = _grid([series for _edge, series in edges])
    counts = np.diff(np.array([_on(series, times) for _edge, series in edges]), axis=0, prepend=0.0).clip(min=0.0)
    used = [row for row in range(len(edges)) if counts[row].any()]
    bottom, top = (min(used), max(used) + 1) if used else (0, len(edges))
    names = _edges([edge for edge, _series in edges], data)
    rows, flags = top - bottom, FLAG if spans else 0
    apart = max(1, math.ceil(rows * 24 / max(1.0, box.h - flags - 40)))
    ticks = [(row - bottom + 0.5, names[row]) for row in range(bottom, top, apart)]
    found = plot(canvas, box.inset(0, flags, 0, 0), window, ticks, 0, rows)
    places = np.array([*(time - data.step / 2 for time in times), times[-1] + data.step / 2])
    shown = np.ma.masked_less_equal(counts[bottom:top], 0.0)
    lightest = -0.15 * float(counts.max() or 1.0)
    found.axes.pcolormesh(places, np.arange(rows + 1), shown, cmap="YlGnBu", vmin=lightest, zorder=2)
    marks(canvas, found, spans, shaded=False)


def _edges(edges: Sequence[float], data: PanelData) -> Sequence[str]:
    """What each bucket holds."""
    unit = data.panel.options.get("yAxis", {}).get("unit") or data.panel.style.unit
    below = [f"≤ {humane(edge, unit)}" for edge in edges]
    if len(edges) > 1 and math.isinf(edges[-1]):
        below[-1] = f"> {humane(edges[-2], unit)}"
    return below


def draw_states(canvas: Canvas, box: Box, data: PanelData, window: Window, spans: Sequence[Span]) -> None:
    """One line for each series; a stretch of one state is one box with the state's name."""
    flags = FLAG if spans else 0
    names = min(max(canvas.length(series.name, SMALL) for series in data.series), box.w * 0.35)
    room = box.inset(names + 12, flags, 0, 0)
    found = plot(canvas, room, window, [], 0, 1)
    height = min(56.0, found.box.h / len(data.series))
    for number, series in enumerate(data.series):
        y = found.box.y + number * height
        canvas.text(box.x, y + height / 2, canvas.fitted(series.name, names, SMALL), SMALL, INK)
        for start, end, value in stretches(series.points, data.step):
            _state(canvas, found, series, (start, end, value), Box(0, y + 3, 0, height - 6))
    marks(canvas, found, spans, shaded=False)


def _state(canvas: Canvas, found: Plot, series: Series, stretch: tuple[float, float, float], line: Box) -> None:
    start, end, value = stretch
    known = series.style.mapping(value)
    strong = colour(known.colour) if known and known.colour else QUIET
    text = known.text if known else humane(value, series.style.unit)
    left, right = found.x(start), found.x(end)
    place = Box(left, line.y, max(1.0, right - left), line.h)
    canvas.box(place, tint(strong), FAINT, thick=1)
    canvas.box(Box(left, line.y, min(5.0, place.w), line.h), strong)
    if canvas.length(text, SMALL, True) + 16 < place.w and line.h >= 20:
        canvas.text(left + 11, line.y + line.h / 2, text, min(TEXT, SMALL), strong, bold=True)


def stretches(points: Sequence[tuple[float, float]], step: float) -> Sequence[tuple[float, float, float]]:
    """(from, to, value) for each run of one value without a gap."""
    found: list[tuple[float, float, float]] = []
    for time, value in points:
        if found and found[-1][2] == value and time - found[-1][1] < step / 2:
            found[-1] = (found[-1][0], time + step, value)
        else:
            found.append((time, time + step, value))
    return found
