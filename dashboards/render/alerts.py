"""Alerts on a picture: one line each at its head, and what they shade in its panels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dashboards.render.axis import FLAG, Plot
from dashboards.render.canvas import SMALL, TEXT, Box, Canvas
from dashboards.render.colours import AMBER, BLUE, FAINT, PAPER, QUIET, RED, tint
from dashboards.render.gather import Span
from dashboards.render.prometheus import Window
from dashboards.render.units import humane

LINE_H: Final = 36
MOST: Final = 10
"""Lines that a picture has room for."""


@dataclass(frozen=True, slots=True)
class Line:
    """All stretches of one alert, whatever else tells them apart (`detail`)."""

    name: str
    severity: str
    detail: str
    spans: Sequence[Span]

    @property
    def order(self) -> tuple[bool, bool, float]:
        """Pages first, then what fired, then what began first."""
        fired = any(span.firing for span in self.spans)
        return self.severity != "page", not fired, min(span.start for span in self.spans)


def alert_lines(spans: Sequence[Span]) -> Sequence[Line]:
    found: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        if span.alert:
            found.setdefault((span.name, span.severity), []).append(span)
    lines = [
        Line(name, severity, ", ".join(sorted({span.detail for span in held if span.detail})), held)
        for (name, severity), held in found.items()
    ]
    return sorted(lines, key=lambda line: line.order)


def height_of(lines: Sequence[Line]) -> float:
    """Pixels that they take."""
    return (min(len(lines), MOST) + (len(lines) > MOST)) * LINE_H


def draw_alerts(canvas: Canvas, box: Box, window: Window, lines: Sequence[Line]) -> None:
    """Each alert's name, then when it was pending (light) and when it fired: red wakes a person, amber does not."""
    shown = lines[:MOST]
    words = [f"{line.severity} ({line.detail})" if line.detail else line.severity for line in shown]
    wide = [
        canvas.length(line.name, TEXT, True) + canvas.length(word, SMALL)
        for line, word in zip(shown, words, strict=True)
    ]
    names = min(max(wide) + 44, box.w * 0.5)
    canvas.box(box, PAPER, FAINT, round_by=6)
    for number, (line, word) in enumerate(zip(shown, words, strict=True)):
        y = box.y + number * LINE_H
        name = canvas.fitted(line.name, names - 24, TEXT, True)
        canvas.text(box.x + 12, y + LINE_H / 2, name, TEXT, _strong(line.severity), bold=True)
        x = box.x + 12 + canvas.length(name, TEXT, True) + 10
        canvas.text(x, y + LINE_H / 2, canvas.fitted(word, box.x + names - x - 8, SMALL), SMALL, QUIET)
        place = Box(box.x + names, y + 5, box.w - names - 10, LINE_H - 10)
        for firing in (False, True):
            for start, end in merged([span for span in line.spans if span.firing is firing]):
                _stretch(canvas, place, window, Span(line.name, "", start, end, line.severity, firing))
    if len(lines) > MOST:
        rest = ", ".join(line.name for line in lines[MOST:])
        fitted = canvas.fitted(f"and {rest}", box.w - 24, SMALL)
        canvas.text(box.x + 12, box.bottom - LINE_H / 2, fitted, SMALL, QUIET)


def _strong(severity: str) -> str:
    return RED if severity == "page" else AMBER


def _stretch(canvas: Canvas, line: Box, window: Window, span: Span) -> None:
    left, right = (line.x + line.w * window.share(time) for time in (span.start, span.end))
    place, strong = Box(left, line.y, max(3.0, right - left), line.h), _strong(span.severity)
    canvas.box(place, strong if span.firing else tint(strong), strong, thick=1)
    for text in (f"{span.state} {humane(span.end - span.start, 's')}", span.state):
        if canvas.length(text, SMALL) + 12 < place.w:
            canvas.text(left + 7, place.y + place.h / 2, text, SMALL, PAPER if span.firing else strong)
            return


def marks(canvas: Canvas, found: Plot, spans: Sequence[Span], *, shaded: bool = True) -> None:
    """Shades when alerts fired, once however many there were; a dashed line where anything else began.

    What woke a person is named above the plot; tickets where nothing did.
    """
    fired = [span for span in spans if span.firing]
    pages = [span for span in fired if span.severity == "page"]
    shown = pages or fired
    strong = RED if pages else AMBER
    for start, end in merged(shown):
        if shaded:
            found.axes.axvspan(start, end, facecolor=strong, alpha=0.09, linewidth=0, zorder=0)
        found.axes.axvline(start, color=strong, linewidth=1.5, alpha=0.7, zorder=1)
    for span in spans:
        if not span.alert:
            found.axes.axvline(span.start, color=BLUE, linewidth=1.8, linestyle=(0, (2, 2)), zorder=1)
    taken = _flag(canvas, found, shown, strong)
    _events(canvas, found, [span for span in spans if not span.alert], taken)


def merged(spans: Sequence[Span]) -> Sequence[tuple[float, float]]:
    """Stretches that touch as one."""
    found: list[tuple[float, float]] = []
    for span in sorted(spans, key=lambda span: span.start):
        if found and span.start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], span.end)
        else:
            found.append((span.start, span.end))
    return found


def _flag(canvas: Canvas, found: Plot, shown: Sequence[Span], strong: str) -> tuple[float, float]:
    """The names of the longest stretch above it, the longest first, as many as fit; from where to where they are."""
    if not shown:
        return found.box.x, found.box.x
    begun, ended = max(merged(shown), key=lambda stretch: stretch[1] - stretch[0])
    lasted: dict[str, float] = {}
    for span in [span for span in shown if begun <= span.start <= ended]:
        lasted[span.name] = lasted.get(span.name, 0.0) + span.end - span.start
    names = sorted(lasted, key=lambda name: (-lasted[name], name))
    text = _names(canvas, names, found.box.w)
    width = canvas.length(text, SMALL, True)
    x = min(found.x(begun), found.box.right - width)
    canvas.text(max(x, found.box.x), found.box.y - FLAG / 2 - 2, text, SMALL, strong, bold=True)
    return x, x + width


def _names(canvas: Canvas, names: Sequence[str], room: float) -> str:
    for count in range(len(names), 0, -1):
        more = f" +{len(names) - count}" if count < len(names) else ""
        text = ", ".join(names[:count]) + more
        if canvas.length(text, SMALL, True) <= room:
            return text
    return canvas.fitted(names[0], room, SMALL, True)


def _events(canvas: Canvas, found: Plot, spans: Sequence[Span], taken: tuple[float, float]) -> None:
    """Names of the other marks, where alerts leave room."""
    for span in spans:
        width = canvas.length(span.name, SMALL)
        x = min(found.x(span.start) + 4, found.box.right - width)
        if x >= found.box.x and (x > taken[1] + 8 or x + width < taken[0] - 8):
            canvas.text(x, found.box.y - FLAG / 2 - 2, span.name, SMALL, BLUE)
            taken = min(taken[0], x), max(taken[1], x + width)
