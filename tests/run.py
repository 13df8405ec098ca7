"""Runs the tests of this checkout: `python -m tests.run all|fast|bench`.

A plain front to pytest, so that `make` and CI say the same thing; the closing list of what was skipped for want
of a component comes from `tests/conftest.py`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
FAST = ("tests/unit", "tests/contract")
SLOW = ("tests/cluster", "tests/e2e", "tests/integration")


def pytest(*arguments: str, env: dict[str, str] | None = None) -> int:
    """The exit code of one run of pytest in a process of its own."""
    command = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, check=False).returncode


def run_fast() -> int:
    return pytest(
        "-q",
        "-n",
        "2",
        *FAST,
        env={"TRELLIS_NO_SERVERS": "1", "TRELLIS_REQUIRE_ALL": "0", "TRELLIS_HYPOTHESIS": "fast"},
    )


def run_all() -> int:
    """Every tier but perf on two workers, the longest tests first. A file stays on one worker, for its servers; dealt
    out test by test, all of the longest would be on the same one."""
    return pytest("-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *SLOW, *FAST)


def run_bench(only: str | None, keep: Path | None) -> int:
    """Every benchmark, one at a time; `keep` gets the figures as `{"name": {figure: value}}`."""
    arguments = ["-q", "-s", "--benchmark-disable-gc", "--benchmark-sort=name", "tests/perf"]
    arguments += ["-k", only] if only else []
    figures = ROOT / ".benchmarks" / "figures.jsonl"
    figures.parent.mkdir(exist_ok=True)
    figures.unlink(missing_ok=True)
    code = pytest(*arguments, env={"TRELLIS_BENCH_FIGURES": str(figures)})
    if keep is not None and figures.exists():
        rows = [json.loads(line) for line in figures.read_text().splitlines()]
        keep.write_text(json.dumps({row.pop("name"): row for row in rows}, indent=1) + "\n")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument("tier", choices=("all", "fast", "bench"))
    parser.add_argument("--only", help="bench: the name to pick")
    parser.add_argument("--json", type=Path, help="bench: a file for the figures")
    asked = parser.parse_args(argv)
    if asked.tier == "bench":
        return run_bench(asked.only, asked.json)
    return run_all() if asked.tier == "all" else run_fast()


if __name__ == "__main__":
    sys.exit(main())
