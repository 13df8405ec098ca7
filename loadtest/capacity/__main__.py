"""Finds the rate at which one replica of a phase leaves its targets, and what a question costs as things grow.

python -m loadtest.capacity --phase small [--out folder] [--anew]
python -m loadtest.capacity --growth [--most 1000] [--out folder]

The search keeps each step in its folder: the same command goes on where an earlier one was interrupted. What it finds
is written to infra/capacity.json and docs/pictures/capacity-<phase>.png.

Exit codes: 0 it was found, 2 it could not be run, or was interrupted.
"""

import argparse
import asyncio
import json
import math
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console

from app.process import cancelled_by
from infra.capacity import load
from infra.errors import InfraError
from infra.phases import PHASES, Phase, PhaseName
from loadtest.capacity import growth
from loadtest.capacity.bench import search
from loadtest.capacity.finding import Say, search_of
from loadtest.capacity.growth import Row
from loadtest.capacity.kept import Kept
from loadtest.capacity.picture import draw
from loadtest.capacity.promise import for_replicas
from loadtest.capacity.stage import stage
from loadtest.capacity.written import growth_json, growth_tables, steps_table, verdict
from loadtest.running import busy, machine, revision
from loadtest.stub.pace import pace_of

Result = TypeVar("Result")
FOUND: Final = 0
NOT_RUN: Final = 2
DIST: Final = Path("dist/capacity")
PICTURES: Final = Path(__file__).resolve().parent.parent.parent / "docs" / "pictures"
# Where nobody looks, lines are as long as they need to be.
_WIDTH: Final = 160


class Refused(ValueError):
    """What was asked for cannot be run. The message is a sentence."""


def phase_of(name: str) -> Phase:
    """Raises Refused."""
    if name not in PHASES:
        said = f"There is no phase '{name}'" if name else "Say which phase: make capacity PHASE=small"
        raise Refused(f"{said} (one of {', '.join(PHASES)}), or GROWTH=1.")
    return PHASES[PhaseName(name)]


def find(phase: Phase, given: argparse.Namespace, console: Console, say: Say) -> None:
    """The search of a phase, its picture and its tables. Raises KeptError, HouseError, K6Error."""
    out = (given.out or DIST / phase.name).resolve()
    kept = Kept(out, phase.name, revision(), machine(), search_of(phase, given.steps, given.resolution))
    if given.anew:
        kept.forget()
    steps = kept.open()
    if steps:
        say(f"{len(steps)} steps of an earlier run are in {out}: going on from there (ANEW=1 begins anew).")
    for sentence in busy():
        say(f"note: {sentence}")
    judged = for_replicas(phase, pace_of(phase))
    made, found = asyncio.run(_until_told(search(phase, judged, kept, steps, say)))
    figures = load()[phase.name]
    told = f"{figures.command}, {figures.measured}, on {figures.machine}, which databases, model stub and k6 share"
    picture = draw(judged, made, found, told, PICTURES / f"capacity-{phase.name}.png")
    console.print(steps_table(judged, made))
    for sentence in verdict(phase, found, figures):
        say(sentence)
    say(f"written: infra/capacity.json, {picture}")


def grow(given: argparse.Namespace, console: Console, say: Say) -> None:
    """Raises Refused, HouseError, RuntimeError."""
    if given.most < min(growth.DOCUMENTS):
        raise Refused(
            f"MOST={given.most:g} leaves nothing to compare: the fewest documents are {min(growth.DOCUMENTS)}."
        )
    out = (given.out or DIST / "growth").resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="growth-", dir=out) as folder:
        rows = asyncio.run(_until_told(_grown(Path(folder), given.most, say)))
    (out / "growth.json").write_text(json.dumps(growth_json(rows), indent=1) + "\n")
    for table in growth_tables(rows):
        console.print(table)
    say(f"written: {out / 'growth.json'}")


async def _grown(folder: Path, most: float, say: Say) -> Sequence[Row]:
    tenants = max(*growth.up_to(most, growth.TENANTS), growth.with_page())
    documents = growth.up_to(most, growth.DOCUMENTS)
    async with stage(folder, tenants, growth.with_page(), documents, say) as there:
        return await growth.measured(there, most, say)


async def _until_told(run: Coroutine[Any, Any, Result]) -> Result:
    with cancelled_by(signal.SIGINT, signal.SIGTERM):
        return await run


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m loadtest.capacity", description="What one replica carries.")
    parser.add_argument("--phase", default="")
    parser.add_argument("--growth", action="store_true", help="what a question costs by tenants, documents, turns")
    parser.add_argument(
        "--most", type=float, default=math.inf, help="of tenants, documents and turns, for a quick look"
    )
    parser.add_argument("--out", type=Path, help="folder of the steps; dist/capacity/<phase> where not given")
    parser.add_argument("--anew", action="store_true", help="forget the steps of an earlier run")
    parser.add_argument("--steps", type=float, default=2.0, help="factor of the geometric steps (%(default)s)")
    parser.add_argument("--resolution", type=float, default=0.25, help="of the rate that is found (%(default)s)")
    return parser


def run(given: argparse.Namespace, say: Say) -> int:
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    if given.phase or not given.growth:
        find(phase_of(given.phase), given, console, say)
    if given.growth:
        grow(given, console, say)
    return FOUND


def main(given: Sequence[str] | None = None) -> int:
    parsed = arguments().parse_args(given)
    try:
        return run(parsed, lambda line: print(line, flush=True))
    except (ValueError, RuntimeError, InfraError) as error:
        print(error, file=sys.stderr)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("Interrupted; nothing runs any more. The same command goes on from the last step.", file=sys.stderr)
    return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
