"""The exact allocation: seconds, and by how much it raises the peak of memory, each in a process of its own.

    python -m tests.perf.test_allocation KIND CUSTOMERS

Six treatments for each customer. `drawn`: every value differs, costs by treatment. `alike`: 40 kinds of customers.
`coarse`: seven values only, so that thousands of choices are equal. `costly`: costs differ by customer, and the budget
is what limits.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.packs.treatments.allocation.problem import FloorLimit, Limits, Problem
from app.packs.treatments.allocation.solve import solve
from tests.perf.figures import record
from tests.support.server import ROOT

TREATMENTS = ("call_back", "email", "sms", "letter", "visit", "discount")
COSTS = np.array([6_000_000, 50_000, 80_000, 1_200_000, 25_000_000, 9_000_000])
GROUPS = ("", "rural", "old")
LEAST = 0.95


def asked(kind: str, customers: int) -> Problem:
    draw = np.random.default_rng(1)
    customer = np.repeat(np.arange(customers, dtype=np.int32), 6)
    treatment = np.tile(np.arange(6, dtype=np.int16), customers)
    cost, per_customer = COSTS[treatment], 1_000_000
    value = draw.integers(0, 80_000_000, customer.size)
    if kind == "alike":
        value = (draw.integers(0, 80, (40, 6)) * 1_000_000)[draw.integers(0, 40, customers)].ravel()
    if kind == "coarse":
        value = draw.integers(1, 8, customer.size) * 10_000_000
    if kind == "costly":
        cost, per_customer = draw.integers(1_000_000, 30_000_000, customer.size), 4_000_000
    net = value - cost
    worth = net > 0
    shares = {"call_back": 20, "visit": 100, "letter": 10, "sms": 5, "discount": 10}
    floors = (FloorLimit("rural", 0.4), FloorLimit("old", 0.05, "call_back"))
    limits = Limits({name: customers // share for name, share in shares.items()}, customers * per_customer, 1, floors)
    return Problem(
        customers=customers,
        groups=draw.integers(0, 3, customers).astype(np.int16),
        group_names=GROUPS,
        treatments=TREATMENTS,
        option_customer=customer[worth],
        option_treatment=treatment[worth],
        option_net=net[worth],
        option_score=net[worth],
        option_cost=cost[worth],
        fixed=np.zeros(int(worth.sum()), np.bool_),
        limits=limits,
    )


def peak_mb() -> float:
    """Of this program alone: what `getrusage` tells begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(kind: str, customers: int) -> dict[str, float]:
    """`greedy`: the greedy rule's score as a part of the bound; `found`: that of the answer."""
    problem = asked(kind, customers)
    before, began = peak_mb(), time.process_time()
    found = solve(problem)
    cpu, growth = time.process_time() - began, peak_mb() - before
    quick = solve(problem, time_limit_s=0)
    return {
        "seconds": found.seconds,
        "cpu_s": cpu,
        "growth_mb": growth,
        "gap": found.gap,
        "optimal": float(found.optimal),
        "core_options": float(found.core_options),
        "greedy": quick.score / found.bound,
        "found": found.score / found.bound,
    }


@pytest.mark.parametrize(
    ("kind", "customers"),
    [("drawn", 2_000), ("drawn", 4_000), ("drawn", 40_000), ("alike", 40_000), ("coarse", 40_000), ("costly", 2_000)],
)
def test_allocation(benchmark: Any, kind: str, customers: int) -> None:
    command = [sys.executable, "-m", "tests.perf.test_allocation", kind, str(customers)]

    def measure() -> dict[str, float]:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    got = benchmark.pedantic(measure, rounds=1)
    assert got["greedy"] <= got["found"] <= 1
    assert got["found"] > LEAST
    record(f"allocation_{kind}_{customers}_customers", **got)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
