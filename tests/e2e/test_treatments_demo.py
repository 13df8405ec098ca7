"""`trellis treatments demo` as a user meets it: interrupted, gone on with, its worker killed, its figures right."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.bank_file import bank_file
from tests.support.processes import wait_until
from tests.support.server import ROOT, environment

CUSTOMERS, JUDGED = 1_200, 300
LONGEST_S = 240.0


class Shown(NamedTuple):
    arguments: tuple[str, ...]
    folder: Path
    printed: str
    figures: dict[str, Any]
    judged: list[dict[str, str]]


def demo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "app.cli", "treatments", "demo", *arguments]
    kept = environment(folder, 1)
    return subprocess.Popen(
        command, cwd=ROOT, env=kept, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Its code, what it printed and its errors; told to end, with its own children, where it takes too long."""
    try:
        printed, errors = process.communicate(timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        printed, errors = process.communicate(timeout=60)
    return process.returncode, printed, errors


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A demo that was interrupted while its first worker was at work, and started again."""
    folder = tmp_path_factory.mktemp("demo")
    path, keep, figures = bank_file(folder / "calls.csv", CUSTOMERS), folder / "kept", folder / "figures.json"
    size = ("--customers", str(CUSTOMERS), "--judged", str(JUDGED), "--compare", "0")
    arguments = ("--data", str(path), *size, "--keep", str(keep), "--json", str(figures))
    home = keep / f"customers-{CUSTOMERS}"
    first = demo(folder, *arguments)
    try:
        wait_until(lambda: first.poll() is not None or worker_runs(home), "a worker runs", LONGEST_S)
    finally:
        first.send_signal(signal.SIGINT)
        code, _, errors = ended(first)
    assert (code, "Traceback" in errors) == (130, False), errors
    assert no_worker(home)
    code, printed, errors = ended(demo(folder, *arguments))
    assert code == 0, errors
    with path.open(newline="") as file:
        judged = list(csv.DictReader(file))[-JUDGED:]
    [found] = json.loads(figures.read_text())["runs"]
    return Shown(arguments, home, printed, found, judged)


def table(printed: str) -> str:
    return printed[printed.index("Treatments: what came of it") :]


def worker_runs(home: Path) -> bool:
    log = home / "demo.log"
    return log.exists() and "The worker runs" in log.read_text()


def no_worker(home: Path) -> bool:
    """Whether the lock of the one worker is free."""
    with sqlite3.connect(home / "trellis.db-worker", isolation_level=None, timeout=0) as lock:
        lock.execute("BEGIN EXCLUSIVE")
    return True


def test_each_customer_is_decided_once_although_a_worker_was_killed(shown: Shown) -> None:
    figures = shown.figures
    assert figures["kills"] == 1
    assert len(figures["peaks"]) == 3
    with sqlite3.connect(shown.folder / "trellis.db") as database:
        found = database.execute("SELECT count(*), count(DISTINCT customer_id) FROM treatment_results").fetchall()
        runs = database.execute("SELECT count(*), max(state) FROM treatment_runs").fetchall()
    assert (found, runs) == ([(CUSTOMERS, CUSTOMERS)], [(1, "done")])
    counted = [figures[name] for name in ("rows", "different", "exported", "exported_different")]
    assert counted == [CUSTOMERS] * 4
    assert sum(figures["states"].values()) == CUSTOMERS
    assert f"yes: {CUSTOMERS:,} results" in shown.printed


def test_its_figures_of_the_allocation_keep_all_limits(shown: Shown) -> None:
    allocation = shown.figures["allocation"]
    limits, usage = allocation["constraints"], allocation["usage"]
    assert all(usage[name] <= most for name, most in limits["capacity"].items())
    assert usage["call_back"] == limits["capacity"]["call_back"] == 6
    assert allocation["spent_usd"] <= limits["budget_micros"] / 1e6 == 75
    assert 0 < allocation["score_usd"] <= allocation["bound_usd"]
    [floor] = shown.figures["floors"]
    assert floor["got"] >= floor["needed"] > 0


def test_it_is_judged_by_outcomes_that_the_run_never_saw(shown: Shown) -> None:
    judgement = shown.figures["judgement"]
    successes = sum(row["deposit"] == "yes" for row in shown.judged)
    assert (judgement["everyone"]["customers"], judgement["everyone"]["successes"]) == (JUDGED, successes)
    called = judgement["called"]["customers"]
    assert 0 < called <= 6
    first = sum(row["deposit"] == "yes" for row in shown.judged[:called])
    assert (judgement["first"]["customers"], judgement["first"]["successes"]) == (called, first)
    with sqlite3.connect(shown.folder / "trellis.db") as database:
        [(known,)] = database.execute("SELECT count(*) FROM treatment_outcomes").fetchall()
    assert known == CUSTOMERS - JUDGED
    assert "Every customer of this file was called" in shown.printed


def test_it_tells_speed_memory_and_what_the_model_took(shown: Shown) -> None:
    figures = shown.figures
    assert all(100 < peak / (1 << 20) < 1_000 for peak in figures["peaks"])
    assert figures["customers_a_second"] == pytest.approx(CUSTOMERS / figures["work_s"])
    assert figures["wall_s"] > figures["work_s"] > 0
    assert figures["run"]["model_calls"] > 0
    assert figures["run"]["tokens"] > 0


def test_done_once_it_is_shown_again_and_another_demo_is_refused(shown: Shown) -> None:
    code, printed, _ = ended(demo(shown.folder, *shown.arguments))
    assert code == 0
    assert table(printed) == table(shown.printed)
    code, _, errors = ended(demo(shown.folder, *shown.arguments, "--judged", "100"))
    assert code == 1
    assert "is of another demo" in errors
