"""The gate: proves a phase's targets at one replica's share of its load.

python -m loadtest.gate --phase small [--scenario average,stress] [--out folder] [--against revision] [--accept]

Exit codes: 0 every threshold held, 99 one was missed or a figure got worse (as k6 says it), 2 it could not be run, or
was interrupted: what was measured until then is in `gate.json`.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp

from app.process import cancelled_by
from infra.phases import PHASES, Phase, PhaseName
from loadtest.compare import BaselineError, accept, against, baseline_path, reference_s, remarks
from loadtest.house import House, HouseError, house
from loadtest.k6 import K6, K6Error
from loadtest.pairs import PairsError, compare_with
from loadtest.plan import REPLAY, Scenario, chosen
from loadtest.report import sentence
from loadtest.report.report import RESULT, report
from loadtest.results import GateResult, Outcome, ScenarioResult, write
from loadtest.running import busy, machine, revision, run_scenario
from loadtest.stub.pace import pace_of
from loadtest.trace import read_trace, replay, trace_path
from loadtest.verdict import doubts

PASSED: Final = 0
FAILED: Final = 99
NOT_RUN: Final = 2
DIST: Final = Path("dist/gate")

Say = Callable[[str], None]


class Refused(ValueError):
    """What was asked for cannot be run. The message is a sentence."""


@dataclass
class Gate:
    """One run: the result grows with each scenario, and is written with each.

    `other`: a revision that this one is compared with in pairs of runs, before the scenarios.
    """

    phase: Phase
    scenarios: Sequence[Scenario]
    out: Path
    k6: K6
    say: Say
    other: str = ""
    result: GateResult = field(init=False)

    def __post_init__(self) -> None:
        now = time.time()
        self.result = GateResult(
            phase=self.phase.name,
            revision=revision(),
            machine=machine(),
            replicas=self.phase.fleet.least,
            began=now,
            ended=now,
            backends={},
            scenarios=(),
            notes=busy(),
        )

    async def run(self) -> GateResult:
        """Everything, with its report. Raises HouseError, K6Error."""
        # At once: by it the next run knows the folder as the gate's.
        self._keep(self.result)
        self._keep(replace(self.result, reference_s=await asyncio.to_thread(reference_s)))
        if self.other:
            await self._pairs()
        async with house(self.out / "house", self.phase, model=pace_of(self.phase), say=self.say) as there:
            self._keep(replace(self.result, backends=there.backends, notes=(*self.result.notes, *there.notes)))
            await self._all(there)
        return self.result

    async def _pairs(self) -> None:
        found = await compare_with(self.other, self.phase, (), self.out / "pairs", self.k6, self.say)
        self._keep(replace(self.result, compared=found.rows, notes=(*self.result.notes, *found.notes)))

    async def _all(self, there: House) -> None:
        for scenario in self.scenarios:
            self.say(f"{scenario.name}: {scenario.factor:g} times the share, {scenario.seconds:.0f} s")
            self._add(await run_scenario(self.k6, scenario, self.phase, there, self.out))
        self._beside_the_baseline()
        await asyncio.to_thread(self._report, there.prometheus)

    def _beside_the_baseline(self) -> None:
        rows = against(self.result, baseline_path(self.phase.name))
        notes = (*self.result.notes, *remarks(rows))
        self._keep(replace(self.result, compared=(*self.result.compared, *rows), notes=notes))

    def _add(self, found: ScenarioResult) -> None:
        notes = (*self.result.notes, *doubts(found.name, found.parts))
        self._keep(replace(self.result, scenarios=(*self.result.scenarios, found), notes=notes, ended=found.ended))
        self.say(f"  {summary(found)}")

    def unfinished(self) -> str:
        """A sentence on what there is of a run that was ended early; it stands in the result, too."""
        measured = ", ".join(each.name for each in self.result.scenarios) or "nothing"
        told = f"Interrupted. Measured until then: {measured}."
        self._keep(replace(self.result, notes=(*self.result.notes, told)))
        return f"{told} Nothing runs any more; what there is, is in {self.out}."

    def _keep(self, result: GateResult) -> None:
        self.result = result
        write(result, self.out / RESULT)

    def _report(self, prometheus: str | None) -> None:
        for path in report(self.result, self.out / "series", prometheus, self.out):
            self.say(f"written: {path}")


def summary(scenario: ScenarioResult) -> str:
    """One line: how many, how fast, what was missed."""
    counts = {outcome: sum(each.outcome is outcome for each in scenario.checks) for outcome in Outcome}
    asked = sum(each.asked for each in scenario.endpoints)
    answer = scenario.questions.answer if scenario.questions else None
    times = f"questions p50 {answer.p50_s * 1000:.0f} ms, " if answer else ""
    if answer and answer.p99_s is not None:
        times += f"p99 {answer.p99_s * 1000:.0f} ms, "
    judged = f"{counts[Outcome.PASSED]} held, {counts[Outcome.FAILED]} missed, {counts[Outcome.NOT_JUDGED]} not judged"
    return f"{scenario.name}: {asked} requests, {scenario.dropped} dropped, {times}thresholds: {judged}"


def phase_of(name: str) -> Phase:
    """Raises Refused."""
    known = ", ".join(PHASES)
    if not name:
        raise Refused(f"Say which phase: make gate PHASE=small (one of {known}).")
    if name not in PHASES:
        raise Refused(f"There is no phase '{name}': choose of {known}.")
    return PHASES[PhaseName(name)]


def scenarios_of(phase: Phase, names: Sequence[str]) -> Sequence[Scenario]:
    """Raises Refused; the trace is read only where it is asked for."""
    try:
        replayed = replay(phase, read_trace(trace_path())) if REPLAY in names else None
        return chosen(phase, names, replayed)
    except ValueError as error:
        raise Refused(str(error)) from error


def empty(folder: Path) -> Path:
    """The folder, with nothing in it of an earlier run. Raises Refused where it holds something else."""
    if folder.exists() and any(folder.iterdir()) and not (folder / RESULT).is_file():
        raise Refused(f"{folder} holds files that are not the gate's: name another folder with OUT=.")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder.resolve()


def only_logs(folder: Path) -> None:
    """Of what ran; its data are of no use any more."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):
                path.rmdir()
        elif path.suffix != ".log":
            path.unlink(missing_ok=True)


def run(given: argparse.Namespace, say: Say) -> int:
    """The exit code, after the verdict was said."""
    phase = phase_of(given.phase)
    scenarios = scenarios_of(phase, [name for name in given.scenario.replace(",", " ").split() if name])
    k6 = K6(say=say)
    gate = Gate(phase, scenarios, empty(given.out or DIST / phase.name), k6, say, given.against)
    try:
        result = asyncio.run(_until_told(gate))
    except asyncio.CancelledError:
        say(gate.unfinished())
        return NOT_RUN
    finally:
        only_logs(gate.out / "house")
    return conclude(result, gate.out, given.accept, say)


def conclude(result: GateResult, out: Path, accepted: bool, say: Say) -> int:
    """The exit code; the verdict and what was missed are said, the baseline is written where that is asked for."""
    for note in result.notes:
        say(f"note: {note}")
    for failure in result.failures:
        say(f"missed: {failure}")
    if accepted and result.passed:
        accept(result, baseline_path(result.phase))
        say(f"accepted as the baseline: {baseline_path(result.phase)}")
    elif accepted:
        say("not accepted as the baseline: it did not pass.")
    say(sentence(result))
    say(f"gate of phase {result.phase}: {'passed' if result.passed else 'FAILED'} ({out})")
    return PASSED if result.passed else FAILED


async def _until_told(gate: Gate) -> GateResult:
    with cancelled_by(signal.SIGINT, signal.SIGTERM):
        return await gate.run()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m loadtest.gate", description="Prove a phase's targets.")
    parser.add_argument("--phase", default="")
    parser.add_argument("--scenario", default="", help="names, by comma: smoke, average, stress, spike, soak, replay")
    parser.add_argument("--out", type=Path, help="folder of the results; dist/gate/<phase> where not given")
    parser.add_argument("--against", default="", help="a revision to run beside this one, in pairs")
    parser.add_argument("--accept", action="store_true", help="make this result the baseline, if it passes")
    return parser


def main() -> int:
    given = arguments().parse_args()
    try:
        return run(given, lambda line: print(line, flush=True))
    except (Refused, HouseError, K6Error, PairsError, BaselineError) as error:
        print(error, file=sys.stderr)
    except aiohttp.ClientError as error:
        print(f"The app, or the model's stub, does not answer any more: {error!r}", file=sys.stderr)
    return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
