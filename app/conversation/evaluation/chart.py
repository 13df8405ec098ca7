"""Hit rate and false hits against the threshold, as SVG that is legible at the width of a README."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WIDTH: Final = 860
_LEFT, _RIGHT, _TOP, _HEIGHT, _GAP = 70, 80, 46, 190, 56
_COLOURS: Final = ("#1f6f8b", "#c8553d", "#5b8c5a", "#6d597a")
_TICKS: Final = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)
_STYLE: Final = "font-family:system-ui,sans-serif;font-size:14px;fill:#222"


@dataclass(frozen=True, slots=True)
class Curve:
    """Shares of 1, one a threshold. `false_hits` is of the hits."""

    name: str
    hits: Sequence[float]
    false_hits: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Panel:
    """One plot over the thresholds; `highest` is the share at its upper edge."""

    top: float
    highest: float
    low: float
    high: float

    def x(self, threshold: float) -> float:
        """By the odds: scores near 1 would otherwise all stand on the edge."""
        share = (_odds(threshold) - _odds(self.low)) / (_odds(self.high) - _odds(self.low))
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, share: float) -> float:
        return self.top + _HEIGHT * (1 - share / self.highest)


def chart(thresholds: Sequence[float], curves: Sequence[Curve], *, default: float, limit: float, dollars: float) -> str:
    """A page of two panels, hits above and false hits below, with the limit and the default marked.

    Args:
        thresholds: rising, all between 0 and 1.
        limit: of the false hits.
        dollars: what 1,000 questions cost where none is a hit; the upper panel's right-hand scale is what is saved.
    """
    ends = (thresholds[0], thresholds[-1])
    upper = _Panel(_TOP, _ceiling(share for curve in curves for share in curve.hits), *ends)
    wrong = (share for curve in curves for share in (limit, *curve.false_hits))
    lower = _Panel(_TOP + _HEIGHT + _GAP, _ceiling(wrong), *ends)
    parts = [
        *_frame(upper, "Questions answered from the cache", default),
        *_frame(lower, "Of these, with the answer of another intent", default),
        *(_line(upper, thresholds, curve.hits, index) for index, curve in enumerate(curves)),
        *(_line(lower, thresholds, curve.false_hits, index) for index, curve in enumerate(curves)),
        *_saved(upper, dollars),
        *_limit(lower, limit),
        *_legend(curves, default, lower.top + _HEIGHT + 48),
    ]
    height = lower.top + _HEIGHT + 64
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Hit rate and false hits of answers by meaning against the threshold">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n<g style="{_STYLE}">\n{body}\n</g>\n</svg>\n'
    )


def _odds(share: float) -> float:
    return math.log(share / (1 - share))


def _ceiling(shares: Iterable[float]) -> float:
    """The least round share that holds them all."""
    highest = max(shares)
    steps = (digit * 10.0**power for power in (-2, -1, 0) for digit in (1, 2, 4, 6, 8))
    return next((step for step in steps if step >= highest), 1.0)


def _frame(panel: _Panel, title: str, default: float) -> Iterator[str]:
    bottom = panel.top + _HEIGHT
    yield f'<text x="{_LEFT}" y="{panel.top - 10}" font-weight="600">{escape(title)}</text>'
    for step in range(5):
        share = panel.highest * step / 4
        y = panel.y(share)
        yield f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{100 * share:.3g} %</text>'
    for tick in _TICKS:
        if panel.low <= tick <= panel.high:
            yield f'<text x="{panel.x(tick):.1f}" y="{bottom + 20}" text-anchor="middle">{tick:g}</text>'
    x = panel.x(default)
    yield f'<path d="M{x:.1f} {panel.top}V{bottom}" stroke="#555" stroke-dasharray="5 4"/>'


def _line(panel: _Panel, thresholds: Sequence[float], shares: Sequence[float], index: int) -> str:
    points = " ".join(f"{panel.x(t):.1f},{panel.y(share):.1f}" for t, share in zip(thresholds, shares, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{_COLOURS[index % len(_COLOURS)]}" stroke-width="2.5"/>'


def _limit(panel: _Panel, limit: float) -> Iterator[str]:
    y = panel.y(limit)
    yield f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#b00020" stroke-width="1.5"/>'
    yield f'<text x="{_LEFT + 6}" y="{y - 6:.1f}" fill="#b00020">{100 * limit:g} %</text>'


def _saved(panel: _Panel, dollars: float) -> Iterator[str]:
    edge = WIDTH - _RIGHT
    yield f'<text x="{WIDTH - 4}" y="{panel.top - 10}" text-anchor="end">USD saved in 1,000 questions</text>'
    for step in range(5):
        share = panel.highest * step / 4
        yield f'<text x="{edge + 8}" y="{panel.y(share) + 5:.1f}">{dollars * share:.3f}</text>'


def _legend(curves: Sequence[Curve], default: float, y: float) -> Iterator[str]:
    x = float(_LEFT)
    for index, curve in enumerate(curves):
        yield f'<path d="M{x} {y - 5}h26" stroke="{_COLOURS[index % len(_COLOURS)]}" stroke-width="2.5"/>'
        yield f'<text x="{x + 32}" y="{y}">{escape(curve.name)}</text>'
        x += 150
    yield f'<path d="M{x} {y - 5}h26" stroke="#555" stroke-dasharray="5 4"/>'
    yield f'<text x="{x + 32}" y="{y}">default: {default:g}</text>'
    yield f'<text x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">threshold (by its odds)</text>'
