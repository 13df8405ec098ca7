"""What the meter makes of its readings."""

import math
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Kept

from loadtest.house.decisions import File, newest, own_shares
from loadtest.house.errors import HouseError
from loadtest.house.processes import children, families, listeners
from loadtest.measure import Histogram, Use, between, histogram, machine_cpu_s, of_times
from tests.support.examples import examples

BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0)
TIMES = st.lists(st.floats(0.0001, 0.999), min_size=1, max_size=60)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads processes as Linux has them")


def kept(*rounds: Sequence[float]) -> list[str]:
    """The text of /metrics after each round."""
    registry, texts = CollectorRegistry(), []
    metric = Kept("own_seconds", "What.", ["pack"], buckets=BOUNDS, registry=registry)
    for times in rounds:
        for place, time in enumerate(times):
            metric.labels(f"pack-{place % 2}").observe(time)
        texts.append(generate_latest(registry).decode())
    return texts


@settings(max_examples=examples(60))
@given(before=TIMES, meanwhile=TIMES)
def test_between_two_readings_is_what_was_observed_meanwhile(before: list[float], meanwhile: list[float]) -> None:
    first, second = (histogram([text], "own_seconds") for text in kept(before, meanwhile))
    found = between(first, second)
    assert found.count == len(meanwhile)
    assert found.total == pytest.approx(sum(meanwhile))
    for bound in BOUNDS:
        assert found.within(bound) == pytest.approx(sum(time <= bound for time in meanwhile) / len(meanwhile))


@settings(max_examples=examples(60))
@given(times=TIMES, share=st.floats(0.01, 1.0))
def test_a_quantile_is_in_the_bucket_of_the_exact_one(times: list[float], share: float) -> None:
    found = histogram(kept(times), "own_seconds").quantile(share)
    exact = sorted(times)[math.ceil(share * len(times) - 1e-9) - 1]
    edges = (0.0, *BOUNDS)
    place = next(number for number, bound in enumerate(BOUNDS) if exact <= bound)
    assert edges[place] <= found <= edges[place + 1]


@settings(max_examples=examples(60))
@given(times=TIMES)
def test_a_p99_over_a_bound_is_one_in_a_hundred_over_it(times: list[float]) -> None:
    found = histogram(kept(times), "own_seconds")
    assert (found.quantile(0.99) <= 0.1) == ((found.within(0.1) or 0.0) >= 0.99)


@settings(max_examples=examples(60))
@given(times=TIMES)
def test_exact_quantiles_are_times_that_were(times: list[float]) -> None:
    found = of_times(times)
    assert found is not None
    assert (found.count, found.worst_s, found.p99_s) == (len(times), max(times), None)
    assert found.p50_s == np.percentile(times, 50, method="inverted_cdf")
    assert found.p95_s == np.percentile(times, 95, method="inverted_cdf")


def test_a_p99_takes_a_thousand() -> None:
    times = [float(number) for number in range(1, 1_001)]
    found, fewer = of_times(times), of_times(times[1:])
    assert found is not None
    assert fewer is not None
    assert (found.p99_s, fewer.p99_s) == (990.0, None)


def test_of_nothing_there_are_no_quantiles() -> None:
    assert of_times([]) is None
    assert Histogram().quantiles() is None
    assert Histogram().within(math.inf) is None
    assert histogram(["# TYPE other gauge\nother 1\n"], "own_seconds").count == 0


def test_what_was_not_there_before_counts_from_nothing() -> None:
    [text] = kept([0.02, 0.2])
    found = between(histogram([""], "own_seconds"), histogram([text], "own_seconds"))
    assert found.count == 2


def test_only_a_bound_can_be_asked_for() -> None:
    with pytest.raises(ValueError, match="is no bound"):
        histogram(kept([0.1]), "own_seconds").within(0.07)


@LINUX
def test_processor_time_counts_from_the_first_reading_and_of_newcomers_whole() -> None:
    use = Use()
    use.read([os.getpid()], first=True)
    assert use.cpu_s == 0
    assert use.memory_mib > 1
    busy = "import time\nwhile time.process_time() < 0.2: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in families([os.getpid()], children())
        use.read([child.pid], first=False, memory=False)
        child.communicate("\n")
    counted = use.cpu_s
    assert counted >= 0.15
    # One that ended is counted to its last reading.
    use.read([child.pid], first=False)
    assert use.cpu_s == counted
    assert families([child.pid]) == []
    assert machine_cpu_s() > counted


@LINUX
def test_who_listens_is_found_by_the_port() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert listeners([port]) == {}
        server.listen()
        assert listeners([port]) == {port: os.getpid()}


def test_own_shares_are_of_decisions_that_asked_a_model_since_then(tmp_path: Path) -> None:
    database = File(tmp_path / "trellis.db")
    with sqlite3.connect(database.path) as connection:
        connection.execute("CREATE TABLE decisions (id TEXT, duration_ms REAL, model_ms REAL)")
        assert newest(database) == ""
        connection.execute("INSERT INTO decisions VALUES ('dec_01', 500, 400)")
        connection.commit()
        last = newest(database)
        rows = [("dec_02", 350.0, 300.0), ("dec_03", 20.0, 0.0), ("dec_04", 299.0, 300.0)]
        connection.executemany("INSERT INTO decisions VALUES (?, ?, ?)", rows)
    assert last == "dec_01"
    assert sorted(own_shares(database, last)) == [0.0, 0.05]
    with pytest.raises(ValueError, match="no id"):
        own_shares(database, "' OR 1=1 --")


def test_a_database_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(HouseError, match="does not tell its decisions"):
        newest(File(tmp_path / "none.db"))
