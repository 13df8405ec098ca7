"""Hybrid search in the embedded engine, in a process of its own: see `bench_vectors` for what is measured."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.perf.figures import record
from tests.support.server import ROOT


@pytest.mark.parametrize("chunks", [150, 2_000])
def test_vectors(benchmark: Any, chunks: int) -> None:
    command = [sys.executable, "-m", "tests.perf.bench_vectors", "--one", "edge", str(chunks)]

    def measure() -> dict[str, float]:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    got = benchmark.pedantic(measure, rounds=1)
    assert 0 < got["p50"] <= got["p99"]
    figures = {"p50_ms": got["p50"], "p99_ms": got["p99"], "loop_pause_ms": got["pause"], "fill_s": got["fill"]}
    record(f"vectors_{chunks}_chunks", **figures, memory_mb=got["memory"])
