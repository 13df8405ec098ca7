"""Dashboards in Grafana's JSON and a Prometheus that answers what a test says, for tests of the preview."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dashboards.render.gather import BoardData, Request, gather
from dashboards.render.grafana import read_board
from dashboards.render.prometheus import Exemplar, Found, QueryFailed, Window

START, END, STEP = 1_790_000_000.0, 1_790_000_600.0, 10.0
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def over(value: float | Sequence[float], step: float = STEP, **labels: str) -> Found:
    """A series over the whole range: one value, or values that repeat."""
    values = [float(each) for each in ([value] if isinstance(value, int | float) else value)]
    count = int((END - START) / step) + 1
    return Found(labels, [(START + number * step, values[number % len(values)]) for number in range(count)])


def between(start: float, end: float, **labels: str) -> Found:
    """A series of ones from so many seconds after the start."""
    return Found(labels, [(START + second, 1.0) for second in range(int(start), int(end) + 1, int(STEP))])


@dataclass
class FakePrometheus:
    """Answers an expression with the series, or fails with the words, that stand for it; with nothing else."""

    answers: Mapping[str, Sequence[Found] | str] = field(default_factory=dict)
    traces: Sequence[Exemplar] = ()
    asked: list[str] = field(default_factory=list)

    async def over(self, expr: str, window: Window) -> Sequence[Found]:
        self.asked.append(expr)
        found = self.answers.get(expr, ())
        if isinstance(found, str):
            raise QueryFailed(found)
        return [Found(each.labels, [p for p in each.points if window.start <= p[0] <= window.end]) for each in found]

    async def at(self, expr: str, time: float) -> Sequence[Found]:
        found = await self.over(expr, Window(START, time, STEP))
        return [Found(each.labels, each.points[-1:]) for each in found]

    async def exemplars(self, expr: str, window: Window) -> Sequence[Exemplar]:
        return self.traces

    async def scrape_s(self) -> float:
        return 5.0


def panel(
    kind: str, *exprs: str, title: str = "A panel", w: int = 8, h: int = 8, x: int = 0, y: int = 0, **more: Any
) -> dict[str, Any]:
    """`more`: unit, legend, instant, shape, defaults, overrides, options, transformations, exemplar."""
    targets = [
        {
            "expr": expr,
            "refId": chr(65 + number),
            "legendFormat": more.get("legend", ""),
            "instant": more.get("instant", False),
            "exemplar": more.get("exemplar", False),
            "format": more.get("shape", "time_series"),
            "datasource": SOURCE,
        }
        for number, expr in enumerate(exprs)
    ]
    return {
        "id": 1,
        "type": kind,
        "title": title,
        "description": "What it says.",
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": w, "h": h},
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": more.get("unit", "short"), **more.get("defaults", {})},
            "overrides": more.get("overrides", []),
        },
        "options": more.get("options", {}),
        "transformations": more.get("transformations", []),
    }


def row(title: str, *hidden: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "row", "title": title, "collapsed": bool(hidden), "panels": list(hidden), "gridPos": {"h": 1}}


def board(*panels: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """`more`: variables, annotations."""
    return {
        "uid": "test-board",
        "title": "Test board",
        "description": "For tests.",
        "panels": list(panels),
        "templating": {"list": more.get("variables", [])},
        "annotations": {"list": more.get("annotations", [])},
    }


async def gathered(
    document: Mapping[str, Any], prometheus: FakePrometheus, chosen: Mapping[str, str] | None = None, step: float = STEP
) -> BoardData:
    request = Request(START, END, step, 0.0, 34.0, chosen or {})
    return await gather(read_board(document), prometheus, request)  # type: ignore[arg-type]
