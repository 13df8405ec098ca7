"""What being told costs: CPU of one cached answer with no telemetry, with a tenth of the traces, and with all of them.

Three servers, each a process of its own asked over a socket: one without spans, metrics and log lines, two with the
JSON line and all metrics of every request, of whose traces a tenth or all go to a collector on this machine. CPU is
that of the whole process, the thread that sends spans included. Rounds of the three take turns; what is reported is
the median of the rounds' differences.
"""

import asyncio
import gc
import os
import statistics
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from app.telemetry.metrics import CATALOGUE, Metrics
from tests.perf.figures import record
from tests.perf.target import Target
from tests.perf.test_chat import QUESTION, from_cache, model_stub

REQUESTS = 1_000
ROUNDS = 9
SHARES = ("off", "0.1", "1")
SERIES = 3_000
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads another process's figures as Linux has them")


class _Taking(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[str]:
    """The address of one that takes everything and forgets it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_telemetry_of_a_cached_answer(benchmark: Any, tmp_path: Path, collector: str) -> None:
    bodies = [{"message": QUESTION}] * REQUESTS
    started: list[Target] = []
    with model_stub() as model:
        try:
            for share in SHARES:
                home = tmp_path / share
                home.mkdir()
                path = "/v1/bots/known/chat"
                started.append(Target.start("told", path, str(home), model, share, collector))

            async def warm() -> None:
                for target in started:
                    await target.ready(bodies[0])
                    await target.round(bodies[:200], keep=False)

            async def all_of_them() -> None:
                for target in started:
                    await target.round(bodies, check=from_cache)

            asyncio.run(warm())
            benchmark.pedantic(lambda: asyncio.run(all_of_them()), rounds=ROUNDS)
        finally:
            for target in started:
                target.end()
    off, tenth, every = (target.cpu for target in started)
    record(
        "telemetry",
        cpu_us_off=statistics.median(off) * 1e6,
        added_us_at_10_percent=added_us(tenth, off),
        least_us_at_10_percent=min(one - none for one, none in zip(tenth, off, strict=True)) * 1e6,
        added_us_at_100_percent=added_us(every, off),
        ratio_at_10_percent=ratio(tenth, off),
        ratio_at_100_percent=ratio(every, off),
        load_average=os.getloadavg()[0],
    )


def added_us(told: list[float], off: list[float]) -> float:
    """Microseconds of CPU a request, the median of the pairs."""
    return statistics.median(one - none for one, none in zip(told, off, strict=True)) * 1e6


def ratio(told: list[float], off: list[float]) -> float:
    return statistics.median(one / none for one, none in zip(told, off, strict=True))


def test_a_scrape(benchmark: Any) -> None:
    """Both formats over a registry of a few thousand series."""
    metrics = filled()
    gc.collect()
    text = benchmark.pedantic(lambda: generate_latest(metrics.registry), rounds=5)
    lines = text.count(b"\n")
    record("scrape", lines=lines, ms=benchmark.stats.stats.median * 1000, bytes=len(text))
    assert lines >= SERIES
    assert len(openmetrics(metrics.registry)) >= len(text) / 2


def filled() -> Metrics:
    metrics = Metrics(CollectorRegistry())
    for number in range(SERIES // 30):
        for spec in CATALOGUE:
            if spec.attribute in ("http_request_duration_seconds", "job_duration_seconds"):
                values = [f"{label.name}-{number}" for label in spec.labels]
                getattr(metrics, spec.attribute).labels(*values).observe(0.1)
    return metrics
