"""Writes the files of a report."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dashboards.render.__main__ import WIDTH, put
from dashboards.render.gather import BoardData, Series
from dashboards.render.page import png
from dashboards.render.picture import draw
from dashboards.render.prometheus import Away, QueryFailed
from loadtest.report.boards import gathered
from loadtest.report.charts import charts, period
from loadtest.report.junit import junit
from loadtest.report.page import Drawn, page
from loadtest.report.timeline import Timeline, read_timeline, width
from loadtest.results import GateResult, write

RESULT: Final = "gate.json"
JUNIT: Final = "junit.xml"
PAGE: Final = "report.html"
CHARTS: Final = "charts.png"


def report(result: GateResult, series: Path | None, prometheus: str | None, out: Path) -> Sequence[Path]:
    """Writes all files into `out` and returns their paths. Blocks for some seconds: not for an event loop's thread.

    Args:
        series: what k6 wrote with `--out json=`, one file or a folder of packed ones; None: charts over time are empty.
        prometheus: address of the one that watched the run; None: the page has no dashboards. What it does not answer
            is said on the page, and the rest is written.

    Raises:
        ValueError: `series` holds something else than k6's output.
    """
    write(result, out / RESULT)
    put(out / JUNIT, junit(result))
    began, ended = period(result)
    length = ended - began
    timeline = Timeline(width(length), {}) if series is None else read_timeline(series, length)
    boards, used, trouble = _asked(result, prometheus, timeline.width_s)
    drawn = [Drawn(data, draw(data, WIDTH)) for data in (charts(result, timeline, used), *boards)]
    names = [CHARTS, *(f"{data.board.uid}.png" for data in boards)]
    for name, each in zip(names, drawn, strict=True):
        put(out / name, png(each.picture.pixels))
    put(out / PAGE, page(result, drawn, trouble).encode())
    return [out / name for name in (PAGE, JUNIT, RESULT, *names)]


def _asked(
    result: GateResult, prometheus: str | None, step_s: float
) -> tuple[Sequence[BoardData], Sequence[Series], str]:
    """The dashboards, the processor of our processes, and why they are not there."""
    if prometheus is None:
        return (), (), "There are no dashboards of this run."
    try:
        return *asyncio.run(gathered(result, prometheus, step_s)), ""
    except (Away, QueryFailed) as error:
        return (), (), f"The dashboards could not be drawn: {error}."
