"""This checkout beside another revision, in pairs of runs: both stand on this machine and are asked in turn.

The other revision is checked out into a worktree of a temporary folder, and gets this checkout's load (`loadtest` and
`tests`): only what is deployed differs. Pairs are run in the orders AB, BA, AB...: what drifts in one direction, as a
machine that gets warm or tables that grow, then weighs on both alike.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from infra.phases import Phase
from loadtest.compare import Figure, compared, paired, remarks, takes
from loadtest.house import House
from loadtest.k6 import K6
from loadtest.plan import P50_SAMPLES, Scenario, mix, questions_s, steady
from loadtest.results import Compared, EndpointResult, Quantiles, ScenarioResult
from loadtest.running import run_scenario
from loadtest.standing import HOUSE

ROOT: Final = Path(__file__).resolve().parent.parent
PAIRS: Final = 6
"""Twelve figures then have a tolerance of 1.7 times the deviation of their pairs; with four pairs it would be 3.1."""
QUESTIONS: Final = 200
"""Asked in each run, so that its medians are steady."""
SHORTEST_S: Final = 30.0
LONGEST_S: Final = 120.0
LOAD: Final = ("loadtest", "tests")
"""What the other revision gets of this one."""
ENDING_S: Final = 60.0
_LONGEST_LINE: Final = 1 << 20
_CALLS: Final = "model calls of a question"

Say = Callable[[str], None]


class PairsError(RuntimeError):
    """The other revision cannot be run. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Paired:
    """`rows`: what differs. `runs`: those of this checkout. `notes`: sentences on what the comparison cannot see."""

    rows: tuple[Compared, ...]
    runs: tuple[ScenarioResult, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `folder`: of its files."""

    name: str
    house: House
    folder: Path


async def compare_with(
    revision: str, phase: Phase, scenarios: Sequence[Scenario], out: Path, k6: K6, say: Say
) -> Paired:
    """Runs each of the scenarios in pairs; a short steady load where none is given. Files are in `out`.

    Raises PairsError, K6Error; aiohttp.ClientError where a house does not answer any more.
    """
    with checkout(revision, out / "checkout") as other:
        async with standing(other, phase, out / "before") as before, standing(ROOT, phase, out / "now") as now:
            sides = (Side(revision, before, out / "before"), Side("now", now, out / "now"))
            pairs = [
                pair
                for scenario in scenarios or (short(phase),)
                for pair in await _pairs(sides, scenario, phase, k6, say)
            ]
    rows = compared(figures(pairs))
    notes = (*remarks(rows), *_other_packages(revision))
    return Paired(rows, tuple(now for _before, now in pairs), notes)


def short(phase: Phase) -> Scenario:
    """At the highest load that the phase promises its targets at."""
    rates, factor = mix(phase), float(phase.headroom or 1)
    seconds = QUESTIONS / (questions_s(rates) * factor)
    return steady("pairs", rates, factor, min(max(seconds, SHORTEST_S), LONGEST_S))


def orders(count: int) -> Iterator[tuple[int, int]]:
    """Which side is first and which second, for each pair."""
    return ((number % 2, 1 - number % 2) for number in range(count))


async def _pairs(
    sides: Sequence[Side], scenario: Scenario, phase: Phase, k6: K6, say: Say
) -> list[tuple[ScenarioResult, ScenarioResult]]:
    """(before, now) of each pair."""
    found = []
    for number, order in enumerate(orders(PAIRS), 1):
        pair: dict[int, ScenarioResult] = {}
        for each in order:
            side = sides[each]
            say(f"{scenario.name}, pair {number} of {PAIRS}: {side.name}, {scenario.seconds:.0f} s")
            pair[each] = await run_scenario(k6, scenario, phase, side.house, side.folder / f"pair-{number}")
        found.append((pair[0], pair[1]))
    return found


def figures(pairs: Sequence[tuple[ScenarioResult, ScenarioResult]]) -> list[Figure]:
    """Each figure that all runs have."""
    both = [(_figures(before), _figures(now)) for before, now in pairs]
    names = dict.fromkeys(name for before, _now in both for name in before)
    found = [
        paired(name, "calls" if name == _CALLS else "s", [(before.get(name), now.get(name)) for before, now in both])
        for name in names
    ]
    return [figure for figure in found if len(figure.pairs) == len(pairs)]


def _figures(run: ScenarioResult) -> Mapping[str, float]:
    """Of one run, by name. A time of too few is left out."""
    found: dict[str, float] = {}
    for each in run.endpoints:
        found |= _times(f"{each.kind} answer", each.answer, "p50")
        found |= _times(f"{each.kind} first piece", each.first_token, "p50")
    if run.questions is not None:
        found |= _of_all(run.questions)
    taken = takes(run)
    names = {"cpu": "processor of a request", "calls": _CALLS}
    return found | {name: taken[key] for key, name in names.items() if key in taken}


def _of_all(questions: EndpointResult) -> Mapping[str, float]:
    answer = _times("question answer", questions.answer, "p95")
    return {**answer, **_times("question own share", questions.own, "p50", "p95")}


def _times(name: str, found: Quantiles | None, *which: str) -> Mapping[str, float]:
    if found is None or found.count < P50_SAMPLES:
        return {}
    values = {"p50": found.p50_s, "p95": found.p95_s}
    return {f"{name} {each}": values[each] for each in which}


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Path]:
    """A worktree of the revision with this checkout's load, removed at the end. Raises PairsError."""
    made = _git("worktree", "add", "--quiet", "--detach", str(folder), commit_of(revision))
    if made.returncode:
        raise PairsError(f"The revision '{revision}' cannot be checked out: {made.stderr.strip()}")
    try:
        for name in LOAD:
            shutil.rmtree(folder / name, ignore_errors=True)
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def commit_of(revision: str) -> str:
    """Its hash. Raises PairsError where there is none."""
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        raise PairsError(f"There is no revision '{revision}' in this repository.")
    return found.stdout.strip()


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603, S607


def _other_packages(revision: str) -> tuple[str, ...]:
    if not _git("diff", "--quiet", commit_of(revision), "--", "uv.lock").returncode:
        return ()
    return (f"uv.lock is another one in {revision}: both ran with the packages of this checkout.",)


@asynccontextmanager
async def standing(root: Path, phase: Phase, folder: Path) -> AsyncIterator[House]:
    """A house of the checkout at `root`, in a process of its own. Raises PairsError."""
    with _log(folder) as errors:
        # A session of its own: ctrl-C reaches it through us, by the end of its input.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "loadtest.standing", phase.name, str(folder / "house")),
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=_LONGEST_LINE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            line = await process.stdout.readline()
            if not line:
                errors.seek(0)
                last = b" ".join(errors.read().splitlines()[-3:]).decode(errors="replace")
                raise PairsError(f"The house of {root} does not start: {last}")
            yield HOUSE.validate_json(line)
        finally:
            await _end(process)
            # What they said is in the log; their data are large.
            await asyncio.to_thread(shutil.rmtree, folder / "house", ignore_errors=True)


def _log(folder: Path) -> IO[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / "house.log").open("w+b")


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(ENDING_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
