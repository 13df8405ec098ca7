"""Latency against load, as a picture that is legible at the width of a README."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from infra.phases import Phase
from loadtest.capacity.finding import Found, cores, rate
from loadtest.capacity.judge import Step, judge
from loadtest.results import Quantiles

INCHES: Final = (9.0, 6.4)
DPI: Final = 130
_INK, _LIMIT, _OUT = "#1f3044", "#b3261e", "#fbe9e7"
_LINES: Final = (("p50", "#1b7f5c", "o"), ("p95", "#2b6cb0", "s"), ("p99", "#8a3ffc", "^"))
_PICKS: Final[dict[str, Callable[[Quantiles], float | None]]] = {
    "p50": lambda times: times.p50_s,
    "p95": lambda times: times.p95_s,
    "p99": lambda times: times.p99_s,
}


def draw(phase: Phase, steps: Sequence[Step], found: Found, told: str, path: Path) -> Path:
    """Above the times of answers, below the API's cores; what is out of the targets is shaded. `told`: whence it is."""
    figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
    answers, use = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    by_rate = sorted(steps, key=lambda step: step.result.factor)
    _times(answers, phase, by_rate)
    _limits(answers, phase)
    _use(use, phase, by_rate)
    for axes in (answers, use):
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
        points = [(rate(phase, step.result.factor), _picked(step, name)) for step in steps]
        shown = [(x, y) for x, y in points if y is not None]
        if shown:
            axes.plot(*zip(*shown, strict=True), color=colour, marker=marker, label=name, linewidth=1.8, markersize=6)
    outs = [(rate(phase, s.result.factor), _picked(s, "p95")) for s in steps if not judge(s, phase).within]
    marked = [(x, y) for x, y in outs if y is not None]
    if marked:
        xs, ys = [x for x, _ in marked], [y for _, y in marked]
        axes.scatter(xs, ys, s=130, facecolors="none", edgecolors=_LIMIT, label="a step that was out")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylabel("seconds", fontsize=13)
    axes.xaxis.set_major_formatter(FuncFormatter(_plain))
    axes.xaxis.set_minor_formatter(FuncFormatter(_plain))
    axes.yaxis.set_major_formatter(FuncFormatter(_plain))


def _picked(step: Step, name: str) -> float | None:
    questions = step.result.questions
    return None if questions is None or questions.answer is None else _PICKS[name](questions.answer)


def _limits(axes: Axes, phase: Phase) -> None:
    targets = phase.targets
    for name, limit in (("p50", targets.answer_p50_s), ("p99", targets.answer_p99_s)):
        if limit is not None:
            axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1.2)
            axes.annotate(
                f"{name} at most {limit:g} s",
                (0.01, limit),
                xycoords=("axes fraction", "data"),
                fontsize=11,
                color=_LIMIT,
                xytext=(0, 3),
                textcoords="offset points",
            )
    axes.legend(fontsize=11, loc="upper left")


def _use(axes: Axes, phase: Phase, steps: Sequence[Step]) -> None:
    rates = [rate(phase, step.result.factor) for step in steps]
    axes.plot(rates, [cores(step, "api") for step in steps], color=_INK, marker="o", linewidth=1.8)
    axes.axhline(phase.api.cpu / 1000, color=_LIMIT, linestyle="--", linewidth=1.2)
    axes.annotate(
        f"a pod's {phase.api.cpu}m",
        (0.01, phase.api.cpu / 1000),
        xycoords=("axes fraction", "data"),
        fontsize=11,
        color=_LIMIT,
        xytext=(0, 3),
        textcoords="offset points",
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("API, cores", fontsize=13)
    axes.set_xlabel("questions a second", fontsize=13)


def _edge(axes: Axes, phase: Phase, found: Found) -> None:
    if found.edge.high is not None:
        right = axes.get_xlim()[1]
        axes.axvspan(rate(phase, found.edge.low or found.edge.high), right, color=_OUT, zorder=0)
        axes.set_xlim(right=right)


def _plain(value: float, _place: Any) -> str:
    return f"{value:g}"
