"""The preview against a real Prometheus: a board with a panel of each kind, drawn from what it scraped of itself."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from alerts.model import Site
from dashboards.render.__main__ import main
from dashboards.render.units import humane
from infra.phases import PHASES, PhaseName
from tests.support.boards import board, panel, row
from tests.support.components import require
from tests.support.monitoring import running_prometheus
from tests.support.processes import wait_until
from tests.support.server import free_port

SERIES = "prometheus_tsdb_head_series"
BUCKETS = "sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[$__rate_interval]))"
WIDTH = 1000


class Asking:
    """A Prometheus that has been scraped a few times."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def value(self, expr: str, at: float) -> float | None:
        query = urllib.parse.urlencode({"query": expr, "time": at})
        with urllib.request.urlopen(f"{self.address}/api/v1/query?{query}", timeout=5) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asking]:
    require("prometheus")
    # Nobody is there to be told of alerts.
    ports = {"prometheus": free_port(), "alertmanager": free_port()}
    folder = tmp_path_factory.mktemp("preview") / "prometheus"
    with running_prometheus(folder, Site(PHASES[PhaseName.POC]), ports) as port:
        asking = Asking(port)

        def scraped() -> bool:
            return (asking.value(f"count_over_time({SERIES}[1m])", time.time()) or 0) >= 4

        wait_until(scraped, "four scrapes", 60)
        yield asking


def test_a_board_is_drawn_from_what_prometheus_has(prometheus: Asking, tmp_path: Path) -> None:
    panels = [
        row("All kinds"),
        panel("timeseries", SERIES, legend="series in the head", w=12),
        panel("stat", 'up{job="prometheus"}', w=6, x=12, h=4),
        panel("bargauge", "prometheus_build_info", legend="{{version}}", instant=True, w=6, x=18, h=4),
        panel("table", "up", instant=True, shape="table", w=12, y=8),
        panel("heatmap", BUCKETS, unit="s", shape="heatmap", w=12, x=12, y=8),
    ]
    (tmp_path / "board.json").write_text(json.dumps(board(*panels)))
    at = float(int(time.time()))
    arguments = ["--range", "1m", "--at", str(at), "--step", "1s", "--width", str(WIDTH), "--out", str(tmp_path)]
    assert main([str(tmp_path / "board.json"), "--prometheus", prometheus.address, *arguments]) == 0
    picture, page = imread(tmp_path / "test-board.png"), (tmp_path / "test-board.html").read_text()
    # The head, a row's title, two lines of panels (four and eight high beside each other, then eight), the edge.
    assert picture.shape[1] == WIDTH
    assert picture.shape[0] > 16 * 44
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50
    in_head = prometheus.value(SERIES, at)
    assert in_head is not None
    assert f'<td>series in the head</td><td class="n">{humane(in_head)}</td>' in page
    assert "No data" not in page
    assert "http://" not in page


def test_what_prometheus_refuses_is_said_in_its_own_words(
    prometheus: Asking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "board.json").write_text(json.dumps(board(panel("stat", "sum(rate(x[5m])", title="Broken"))))
    assert main([str(tmp_path / "board.json"), "--prometheus", prometheus.address, "--out", str(tmp_path)]) == 1
    assert "Broken: 1:16: parse error: unclosed left parenthesis" in capsys.readouterr().err
    assert "unclosed left parenthesis" in (tmp_path / "test-board.html").read_text()
