"""The dashboards of the run, asked of its Prometheus."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from dashboards.render.__main__ import BOARDS, WIDTH
from dashboards.render.gather import BoardData, Request, Series, gather
from dashboards.render.grafana import COLUMNS, Style, read_board
from dashboards.render.interval import duration, rate_interval
from dashboards.render.prometheus import Prometheus, Window
from loadtest.report.charts import period, scenario_spans
from loadtest.results import GateResult

UIDS: Final = ("trellis-slo", "trellis-api", "trellis-model", "trellis-release")
_PROCESSOR: Final = "sum by (job) (rate(process_cpu_seconds_total[{interval}]))"


async def gathered(result: GateResult, address: str, step_s: float) -> tuple[Sequence[BoardData], Sequence[Series]]:
    """Each dashboard with the scenarios marked on it, and the processor (cores) of our processes over time.

    Raises Away where nobody answers at the address.
    """
    async with Prometheus(address) as prometheus:
        scrape_s = await prometheus.scrape_s()
        began, ended = period(result)
        request = Request(began, ended, max(step_s, scrape_s), scrape_s, WIDTH / COLUMNS / 2, {})
        boards = [await gather(read_board(json.loads(_file(uid).read_bytes())), prometheus, request) for uid in UIDS]
        used = await _processor(prometheus, Window(began, ended, request.step), scrape_s)
    spans = scenario_spans(result)
    return [replace(board, spans=[*spans, *board.spans]) for board in boards], used


def _file(uid: str) -> Path:
    return BOARDS / f"{uid}.json"


async def _processor(prometheus: Prometheus, window: Window, scrape_s: float) -> Sequence[Series]:
    interval = duration(rate_interval(window.step, scrape_s))
    found = await prometheus.over(_PROCESSOR.format(interval=interval), window.aligned(window.step))
    return [
        Series(each.labels.get("job", ""), each.labels, each.points, Style("short", least=0.0), "A") for each in found
    ]
