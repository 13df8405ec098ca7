"""The figures of a benchmark: a line for a person, and JSON for `make bench JSON=file`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

FILE = "TRELLIS_BENCH_FIGURES"


def record(name: str, **figures: float | str) -> None:
    """Prints one line, and appends one JSON object to the file that `tests.run` names. Units are in the names."""
    told = {figure: value if isinstance(value, str) else float(f"{value:.4g}") for figure, value in figures.items()}
    print(f"\n{name}: " + ", ".join(f"{figure} {_readable(value)}" for figure, value in told.items()))
    if target := os.environ.get(FILE):
        with Path(target).open("a") as file:
            file.write(json.dumps({"name": name, **told}) + "\n")


def _readable(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.10g}"


def spread(values: Sequence[float]) -> dict[str, float]:
    """The median and the 99th percentile of times in milliseconds."""
    return {"p50_ms": float(np.percentile(values, 50)), "p99_ms": float(np.percentile(values, 99))}
