"""Ticks of time and of values, and the plot between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dashboards.render.canvas import SMALL, Box, Canvas
from dashboards.render.colours import FAINT, QUIET
from dashboards.render.prometheus import Window
from dashboards.render.units import BINARY, humane, parts

FLAG: Final = 26
"""Height of the line above a plot in which marks are named."""
_TIME_H: Final = 28
_MINUTES_W: Final = 76
_SECONDS_W: Final = 116
_EVERY: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400),
    *(172_800, 432_000, 864_000, 2_592_000),
)


@dataclass(frozen=True, slots=True)
class Plot:
    """Axes over time, and the pixels that they take."""

    axes: Axes
    box: Box
    window: Window

    def x(self, time: float) -> float:
        """The pixel of a moment; the nearest edge's for one outside."""
        return self.box.x + self.box.w * self.window.share(time)


def moments(window: Window, room: float) -> list[tuple[float, str]]:
    """Round moments in UTC with what they are called, as many as `room` pixels have place for."""
    every = next((e for e in _EVERY if window.length / e * (_SECONDS_W if e < 60 else _MINUTES_W) <= room), _EVERY[-1])
    form = "%H:%M:%S" if every < 60 else "%H:%M" if every < 86_400 else "%-d %b"
    first = math.ceil(window.start / every) * every
    count = int((window.end - first) // every) + 1
    times = [first + number * every for number in range(max(0, count))]
    return [(time, datetime.fromtimestamp(time, UTC).strftime(form)) for time in times]


def values(low: float, high: float, unit: str, decimals: int | None = None) -> list[tuple[float, str]]:
    """Four or so round values between two, as they are written; never two that are written alike."""
    factor = _factor(max(abs(low), abs(high)), unit)
    found = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]).tick_values(low / factor, high / factor)
    ticks = [float(value) * factor for value in found if low - 1e-12 <= value * factor <= high * 1.0001]
    written = [(value, humane(value, unit) if abs(value) > 1e-15 else "0") for value in ticks]
    if decimals == 0 or unit in ("bool", "bool_yes_no"):
        written = [(value, humane(value, unit, 0)) for value in ticks if value == round(value)]
    return list({text: (value, text) for value, text in reversed(written)}.values())[::-1]


def _factor(top: float, unit: str) -> float:
    """What ticks must be round multiples of, where the unit does not count in tens."""
    scale = parts(unit)[0]
    if scale is not BINARY:
        return 1.0
    return max((step for step, _name in scale if top >= step), default=1.0)


def plot(canvas: Canvas, box: Box, window: Window, ticks: Sequence[tuple[float, str]], low: float, high: float) -> Plot:
    """Draws both axes; what is left of the box is the plot's."""
    left = max([canvas.length(text, SMALL) for _value, text in ticks], default=0.0) + 10
    inner = box.inset(left, 8, 10, _TIME_H)
    for value, text in ticks:
        y = inner.bottom - inner.h * (value - low) / (high - low)
        canvas.line(inner.x, y, inner.right, y, FAINT)
        canvas.text(inner.x - 8, y, text, SMALL, QUIET, across="right")
    axes = canvas.axes(inner)
    axes.set_xlim(window.start, max(window.end, window.start + 1e-6))
    axes.set_ylim(low, high)
    found = Plot(axes, inner, window)
    _moments(canvas, found)
    return found


def _moments(canvas: Canvas, found: Plot) -> None:
    box = found.box
    for time, text in moments(found.window, max(box.w, 160)):
        half = canvas.length(text, SMALL) / 2
        x = min(max(found.x(time), box.x + half - 20), box.right - half + 8)
        canvas.line(found.x(time), box.bottom, found.x(time), box.bottom + 5, QUIET)
        canvas.text(x, box.bottom + _TIME_H / 2 + 4, text, SMALL, QUIET, across="center")
