"""Makes faults on purpose and says what they cost: `python -m tests.chaos.run [--only NAME] [--seeds N] [--json FILE]`.

Every fault runs against real processes of its own in a temporary folder. Exit code 1 where a promise was not kept.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from tests.chaos.fault import CannotBeMade, Fault, Seen, Stage, broken
from tests.chaos.faults import FAULTS
from tests.support.components import COMPONENTS

SEEDS = 200
LIMIT_S = 600.0
"""A fault that takes longer is ended, and its promise is not kept."""
COLUMNS = ("fault", "promised", "tried", "failed", "lost", "doubled", "recovery", "figures", "kept")


@dataclass(frozen=True)
class Outcome:
    """One fault's run. `broken`: why its promise was not kept; empty where it was. `skipped`: why it was not made."""

    fault: Fault
    seen: Seen
    took_s: float
    broken: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def verdict(self) -> str:
        if self.skipped:
            return f"not run: {self.skipped}"
        return "kept" if not self.broken else "BROKEN: " + "; ".join(self.broken)


async def make(fault: Fault, seeds: int) -> Outcome:
    """Raises nothing of the fault's own: an error in it is a promise that was not kept."""
    absent = [need for need in fault.needs if COMPONENTS[need].find() is None]
    if absent:
        return Outcome(fault, Seen(), 0.0, skipped=f"needs {', '.join(absent)} (make deps)")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"trellis-{fault.name}-"))

    def tell(line: str) -> None:
        print(f"  {time.monotonic() - began:5.1f} s  {line}", file=sys.stderr, flush=True)

    seen, found = Seen(), list[str]()
    try:
        async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
            seen = await fault.run(Stage(folder, seeds, stack, tell))
        found = broken(fault.promise, seen)
    except CannotBeMade as reason:
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(fault, seen, time.monotonic() - began, skipped=str(reason))
    except Exception as error:
        found = [f"the run failed: {type(error).__name__}: {error}"]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if found:
        tell(f"what its processes wrote stays in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(fault, seen, time.monotonic() - began, tuple(found))


async def make_all(faults: Sequence[Fault], seeds: int, outcomes: list[Outcome]) -> None:
    """Adds each outcome as it comes: an interruption leaves those before it."""
    for number, fault in enumerate(faults, 1):
        print(f"[{number}/{len(faults)}] {fault.name}: {fault.title}", file=sys.stderr, flush=True)
        outcomes.append(await make(fault, seeds))
        print(f"  {outcomes[-1].verdict} ({outcomes[-1].took_s:.0f} s)", file=sys.stderr, flush=True)


def cells(outcome: Outcome) -> tuple[str, ...]:
    """As `COLUMNS` names them."""
    seen, promise = outcome.seen, outcome.fault.promise
    recovery = "–" if seen.recovery_s is None else f"{seen.recovery_s:.1f} s"
    figures = ", ".join(f"{name} {value:,.4g}" for name, value in seen.figures.items())
    kinds = ", ".join(f"{count} x {kind}" for kind, count in seen.kinds.items())
    failed = f"{seen.failed} ({kinds})" if kinds else str(seen.failed)
    counts = (str(seen.tried), failed, str(seen.lost), str(seen.doubled))
    return (
        f"{outcome.fault.title} (`{outcome.fault.name}`)",
        promise.text,
        *counts,
        recovery,
        figures,
        outcome.verdict,
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """In Markdown: readable in a terminal, and the same text in docs/faults.md."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [f"| {' | '.join(cells(outcome))} |" for outcome in outcomes]
    return "\n".join(lines)


def occasion(outcomes: Sequence[Outcome]) -> str:
    """When and on what: figures of a run are of its machine."""
    day, took = datetime.now(UTC).date(), sum(outcome.took_s for outcome in outcomes)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{day}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, {python}, {took:.0f} s in all"


def as_json(outcomes: Sequence[Outcome]) -> str:
    rows = [
        {"name": o.fault.name, "promised": asdict(o.fault.promise), "seen": asdict(o.seen)}
        | {"broken": o.broken, "skipped": o.skipped, "took_s": round(o.took_s, 1)}
        for o in outcomes
    ]
    return json.dumps({"occasion": occasion(outcomes), "faults": rows}, indent=1) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--only", choices=names, action="append", help="a fault; may be given again")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="runs of faults that are made many times")
    parser.add_argument("--json", type=Path, help="a file for what was seen")
    parser.add_argument("--markdown", type=Path, help="a file whose part between the marks 'faults' gets the table")
    asked = parser.parse_args(argv)
    chosen = [fault for fault in FAULTS if not asked.only or fault.name in asked.only]
    outcomes: list[Outcome] = []
    interrupted = False
    try:
        uvloop.run(make_all(chosen, asked.seeds, outcomes))
    except KeyboardInterrupt:
        interrupted = True
        print("Interrupted: what was started is ended.", file=sys.stderr)
    print(f"{table(outcomes)}\n\n{occasion(outcomes)}")
    if asked.json is not None:
        asked.json.write_text(as_json(outcomes))
    if asked.markdown is not None:
        write_into(asked.markdown, f"{occasion(outcomes)}\n\n{table(outcomes)}\n")
    return 130 if interrupted else int(any(outcome.broken for outcome in outcomes))


def write_into(path: Path, text: str) -> None:
    """Replaces what is between the marks. Raises ValueError where they are missing."""
    begin, end = "<!-- faults -->\n", "<!-- /faults -->"
    before, opened, rest = path.read_text().partition(begin)
    _old, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{path} lacks the marks {begin.strip()} and {end}")
    path.write_text(f"{before}{begin}{text}{end}{after}")


if __name__ == "__main__":
    sys.exit(main())
