"""A sheet whose places are pixels, counted from the top left; text on it is measured before it is drawn."""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle

from dashboards.render.colours import INK, PAPER

# At 72 dots an inch a point is a pixel.
DPI: Final = 72
TITLE: Final = 22
TEXT: Final = 20
SMALL: Final = 18
"""Heights of letters in pixels: the picture is shown at half its size."""
Dashes = Literal["-"] | tuple[int, tuple[int, ...]]
_GROUND: Final = -1
"""Below axes, which are below text."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    w: float
    h: float

    @property
    def right(self) -> float:
        return self.x + self.w

    @property
    def bottom(self) -> float:
        return self.y + self.h

    def inset(self, left: float, top: float, right: float, bottom: float) -> "Box":
        return Box(self.x + left, self.y + top, max(1.0, self.w - left - right), max(1.0, self.h - top - bottom))


def _cut(text: str, kept: int) -> str:
    return f"{text[:kept].rstrip()}…"


class Canvas:
    """One picture of `width` by `height` pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAPER)
        self._agg = FigureCanvasAgg(self._figure)
        self._lengths: dict[tuple[str, int, bool], float] = {}
        self._measure: Any = self._agg.get_renderer()  # type: ignore[no-untyped-call]

    def length(self, text: str, size: int = TEXT, bold: bool = False) -> float:
        """Pixels that a text takes."""
        known = self._lengths.get((text, size, bold))
        if known is None:
            font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
            known = float(self._measure.get_text_width_height_descent(text, font, False)[0])
            self._lengths[text, size, bold] = known
        return known

    def fitted(self, text: str, width: float, size: int = TEXT, bold: bool = False) -> str:
        """The text, or as much of it as the width takes with an ellipsis."""
        if self.length(text, size, bold) <= width:
            return text
        short = bisect_right(range(len(text)), width, key=lambda kept: self.length(_cut(text, kept), size, bold))
        return _cut(text, short - 1) if short else ""

    def wrapped(self, text: str, width: float, size: int = TEXT, bold: bool = False) -> list[str]:
        """Lines that fit the width."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if self.length(longer, size, bold) > width and lines[-1]:
                lines.append(self.fitted(word, width, size, bold))
            else:
                lines[-1] = self.fitted(longer, width, size, bold)
        return lines

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = TEXT,
        colour: str = INK,
        *,
        bold: bool = False,
        across: str = "left",
        down: str = "center",
    ) -> None:
        """`across`: which side of the text is at x (left, center, right). `down`: top, center or bottom at y."""
        self._figure.text(
            x / self.width,
            1 - y / self.height,
            text,
            fontsize=size,
            color=colour,
            fontweight="bold" if bold else "normal",
            family="DejaVu Sans",
            ha=across,
            va="center_baseline" if down == "center" else down,
            parse_math=False,
        )

    def box(self, box: Box, fill: str, edge: str = "none", *, round_by: float = 0.0, thick: float = 1.5) -> None:
        place = (box.x / self.width, 1 - box.bottom / self.height)
        size = (box.w / self.width, box.h / self.height)
        if not round_by:
            plain = Rectangle(place, *size, facecolor=fill, edgecolor=edge, linewidth=thick, zorder=_GROUND)
            self._figure.add_artist(plain)
            return
        shape = FancyBboxPatch(
            (box.x + round_by, self.height - box.bottom + round_by),
            max(0.1, box.w - 2 * round_by),
            max(0.1, box.h - 2 * round_by),
            boxstyle=f"round,pad={round_by}",
            facecolor=fill,
            edgecolor=edge,
            linewidth=thick,
            transform=None,
            zorder=_GROUND,
        )
        self._figure.add_artist(shape)

    def line(
        self, x: float, y: float, to_x: float, to_y: float, colour: str, thick: float = 1.5, style: Dashes = "-"
    ) -> None:
        xs, ys = (x / self.width, to_x / self.width), (1 - y / self.height, 1 - to_y / self.height)
        self._figure.add_artist(Line2D(xs, ys, color=colour, linewidth=thick, linestyle=style, zorder=_GROUND))

    def axes(self, box: Box) -> Axes:
        """Bare axes over a box: ticks and their texts are drawn as everything else is."""
        place = (box.x / self.width, 1 - box.bottom / self.height, box.w / self.width, box.h / self.height)
        axes = self._figure.add_axes(place)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set_visible(False)
        axes.patch.set_visible(False)
        return axes

    def pixels(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Rows of red, green and blue, from 0 to 255."""
        agg: Any = self._agg
        agg.draw()
        return np.array(agg.buffer_rgba(), dtype=np.uint8)[:, :, :3]
