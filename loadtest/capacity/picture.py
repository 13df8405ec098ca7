"""Latency against load, as a picture that is legible at the width of a README."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from infra.phases import Phase
from loadtest.capacity.finding import Found, cores, rate
from loadtest.capacity.judge import SLOW_SHARE, Step, judge
from loadtest.results import Quantiles

INCHES: Final = (9.0, 7.4)
DPI: Final = 130
_INK, _LIMIT, _OUT = "#1f3044", "#b3261e", "#fbe9e7"
_LINES: Final = (("p50", "#1b7f5c", "o"), ("p95", "#2b6cb0", "s"), ("p99", "#8a3ffc", "^"))
_PICKS: Final[dict[str, Callable[[Quantiles], float | None]]] = {
    "p50": lambda times: times.p50_s,
    "p95": lambda times: times.p95_s,
    "p99": lambda times: times.p99_s,
}


def draw(phase: Phase, steps: Sequence[Step], found: Found, told: str, path: Path) -> Path:
    """Times of answers, how many own shares were too long, and the API's cores; what is out of the targets is shaded.

    Each step is a mark, and lines go through the median of a rate's steps. `told`: whence it is."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    answers, own, use = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.4, 1.2))
    by_rate = sorted(steps, key=lambda step: step.result.factor)
    _times(answers, phase, by_rate)
    _own(own, phase, by_rate)
    _use(use, phase, by_rate)
    for axes in (answers, own, use):
        _edge(axes, phase, found)
        axes.grid(visible=True, which="major", color="#e3e7ec", linewidth=0.8)
        axes.tick_params(which="both", labelsize=12)
    figure.suptitle(f"One replica of phase {phase.name}: time to answer against load", fontsize=15, color=_INK)
    figure.supxlabel(told, fontsize=9, color="#5b6b7c")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _times(axes: Axes, phase: Phase, steps: Sequence[Step]) -> None:
    for name, colour, marker in _LINES:
        _drawn(axes, [(rate(phase, step.result.factor), _picked(step, name)) for step in steps], colour, marker, name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("seconds", fontsize=13)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_plain))
        axis.set_minor_formatter(FuncFormatter(_plain))
    targets = phase.targets
    for name, limit in (("p50", targets.answer_p50_s), ("p99", targets.answer_p99_s)):
        if limit is not None:
            _limit(axes, limit, f"{name} at most {limit:g} s")
    axes.legend(fontsize=11, loc="upper left")


def _picked(step: Step, name: str) -> float | None:
    questions = step.result.questions
    return None if questions is None or questions.answer is None else _PICKS[name](questions.answer)


def _own(axes: Axes, phase: Phase, steps: Sequence[Step]) -> None:
    """Percent; a ring around each step that was out, for whatever reason."""
    points = [(rate(phase, step.result.factor), 100 * step.own_slow / step.own if step.own else None) for step in steps]
    _drawn(axes, points, _INK, "o")
    out = [point for step, point in zip(steps, points, strict=True) if not judge(step, phase).within]
    marked = [(x, y) for x, y in out if y is not None]
    if marked:
        xs, ys = [x for x, _ in marked], [y for _, y in marked]
        axes.scatter(xs, ys, s=130, facecolors="none", edgecolors=_LIMIT, label="a step that was out")
        axes.legend(fontsize=11, loc="upper left")
    _limit(axes, 100 * SLOW_SHARE, f"at most {SLOW_SHARE:.0%}")
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"own share\n> {phase.targets.own_share_p99_s:g} s, %", fontsize=13)


def _use(axes: Axes, phase: Phase, steps: Sequence[Step]) -> None:
    _drawn(axes, [(rate(phase, step.result.factor), cores(step, "api")) for step in steps], _INK, "o")
    _limit(axes, phase.api.cpu / 1000, f"a pod's {phase.api.cpu}m")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("API, cores", fontsize=13)
    axes.set_xlabel("questions a second", fontsize=13)


def _drawn(
    axes: Axes, points: Sequence[tuple[float, float | None]], colour: str, marker: str, label: str | None = None
) -> None:
    at: dict[float, list[float]] = {}
    for x, y in points:
        if y is not None:
            at.setdefault(x, []).append(y)
    if at:
        axes.plot(list(at), [median(ys) for ys in at.values()], color=colour, linewidth=1.8)
        every = [(x, y) for x, ys in at.items() for y in ys]
        axes.plot(*zip(*every, strict=True), color=colour, marker=marker, linestyle="", markersize=6, label=label)


def _limit(axes: Axes, limit: float, words: str) -> None:
    axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1.2)
    axes.annotate(
        words,
        (0.99, limit),
        xycoords=("axes fraction", "data"),
        ha="right",
        fontsize=11,
        color=_LIMIT,
        xytext=(0, -14),
        textcoords="offset points",
    )


def _edge(axes: Axes, phase: Phase, found: Found) -> None:
    if found.edge.high is not None:
        right = axes.get_xlim()[1]
        axes.axvspan(rate(phase, found.edge.low or found.edge.high), right, color=_OUT, zorder=0)
        axes.set_xlim(right=right)


def _plain(value: float, _place: Any) -> str:
    return f"{value:g}"
