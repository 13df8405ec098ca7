"""The gate tries itself: it passes a healthy service, and stops one that is 30 % slower and one that fails 1 in 100.

The service is a stand-in with waits of its own (`loadtest.stub.stand_in`), so that it is certain what is to be found.
k6, the script, the figures, the thresholds, the comparison and the exit code are the gate's. The healthy one, its twin
and the slower one are asked in turn, so that what disturbs the machine disturbs all of them.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.phases import PHASES, Phase, PhaseName
from loadtest.compare import compared
from loadtest.gate import FAILED, NOT_RUN, PASSED, conclude
from loadtest.k6 import K6, K6Error, Say
from loadtest.pairs import figures
from loadtest.plan import Scenario, Stage, mix
from loadtest.results import GateResult, Outcome, ScenarioResult
from loadtest.running import ROOT, machine, result_of, revision
from loadtest.script import Target

PHASE: Final = PHASES[PhaseName.MEDIUM]
"""Of two hundred requests one may fail."""
FACTOR: Final = 5.0
ROUNDS: Final = 5
ROUND_S: Final = 7.0
ERRORS_S: Final = 24.0
WARM_S: Final = 1.0
QUESTIONS: Final = tuple(f"What does page {number} of the handbook say?" for number in range(12))
KEYS: Final = ("key-1", "key-2")
SIDES: Final[Mapping[str, Sequence[str]]] = {
    "healthy": (),
    "its twin": (),
    "30 % slower": ("--slower", "1.3"),
    "1 % errors": ("--errors", "0.01"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One service that was put before the gate. `why`: what the gate says of it."""

    name: str
    wanted: int
    code: int
    why: str

    @property
    def right(self) -> bool:
        return self.code == self.wanted


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs loads on stand-ins, by their names in `SIDES`."""

    k6: K6
    addresses: Mapping[str, str]
    folder: Path

    async def ask(self, side: str, seconds: float, number: int = 0) -> ScenarioResult:
        target = Target(self.addresses[side], KEYS, "handbook", "notes", QUESTIONS, QUESTIONS)
        run = await self.k6.run(load(PHASE, seconds), PHASE, target, self.folder / f"{side}-{number}")
        return result_of(run, PHASE)

    async def cases(self, say: Say) -> Sequence[Case]:
        rounds = []
        compare = ("healthy", "its twin", "30 % slower")
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}: {', '.join(compare)}")
            turns = compare[number % 3 :] + compare[: number % 3]
            rounds.append({side: await self.ask(side, ROUND_S, number) for side in turns})
        say("the one with errors")
        faulty = await self.ask("1 % errors", ERRORS_S)
        return [
            *(_beside(name, wanted, rounds) for name, wanted in (("its twin", PASSED), ("30 % slower", FAILED))),
            _judged("1 % errors", FAILED, result((faulty,))),
        ]


def load(phase: Phase, seconds: float) -> Scenario:
    """The mix of the phase, heavier than its share, for so long after a short warm-up."""
    return Scenario("self-test", mix(phase), (Stage(FACTOR, WARM_S + seconds),), warm_s=WARM_S)


def result(scenarios: Sequence[ScenarioResult], before: Sequence[ScenarioResult] = ()) -> GateResult:
    """As the gate's; beside the runs of `before`, in pairs, where there are any."""
    pairs = list(zip(before, scenarios, strict=True)) if before else []
    began, ended = scenarios[0].began, scenarios[-1].ended
    rows = compared(figures(pairs)) if pairs else ()
    return GateResult(PHASE.name, revision(), machine(), 1, began, ended, {}, tuple(scenarios), rows)


def _beside(side: str, wanted: int, rounds: Sequence[Mapping[str, ScenarioResult]]) -> Case:
    name = "healthy" if side == "its twin" else side
    return _judged(name, wanted, result([each[side] for each in rounds], [each["healthy"] for each in rounds]))


def _judged(name: str, wanted: int, found: GateResult) -> Case:
    """By the gate's own exit code."""
    code = conclude(found, Path(), accepted=False, say=lambda _line: None)
    return Case(name, wanted, code, "; ".join(found.failures) or _held(found))


def _held(found: GateResult) -> str:
    held = sum(check.outcome is Outcome.PASSED for each in found.scenarios for check in each.checks)
    return f"{held} thresholds held, {len(found.compared)} figures are as before"


@contextmanager
def standing(arguments: Sequence[str]) -> Iterator[str]:
    """The address of a stand-in that runs until the block ends."""
    command = [sys.executable, "-m", "loadtest.stub.stand_in", "0", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own program
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise K6Error("The stand-in of the service does not start: see what it said above.")
        yield address
    finally:
        process.kill()
        process.communicate()


def table(cases: Sequence[Case], width: int = 150) -> str:
    lines = [f"{'service':<14}{'wanted':>7}{'exit':>6}  what the gate says"]
    for each in cases:
        mark = "" if each.right else "  <- WRONG"
        lines.append(f"{each.name:<14}{each.wanted:>7}{each.code:>6}  {each.why}"[:width] + mark)
    return "\n".join(lines)


def run(say: Callable[[str], None]) -> int:
    """0 where the gate is right in every case, else 1. Raises K6Error."""
    k6, began = K6(say=lambda _line: None), time.monotonic()
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(standing(arguments)) for name, arguments in SIDES.items()}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trellis-gate-")))
        cases = asyncio.run(Trial(k6, addresses, folder).cases(say))
    say(table(cases))
    right = all(each.right for each in cases)
    say(f"the gate {'is right' if right else 'is WRONG'}, after {time.monotonic() - began:.0f} s")
    return 0 if right else 1


def main() -> int:
    try:
        return run(lambda line: print(line, flush=True))
    except K6Error as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted; nothing runs any more.", file=sys.stderr)
    return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
