"""Runs k6: `Run` says what became of every request of one scenario.

k6 gives the arrivals, and the times it saw; the figures are made of every single request, so that kinds can be put
together and a p99 is never one of too few.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT
from typing import Any, Final

import orjson

from app.ids import new_id
from infra.phases import Phase
from loadtest.plan import SHARES, Scenario
from loadtest.results import EndpointResult, Kind
from loadtest.samples import Sample, endpoint, failures, quantiles, read_line
from loadtest.script import SCRIPT, Target, told

CROSSED: Final = 99
"""k6's exit code where a threshold was crossed."""
PATIENCE_S: Final = 10.0
"""That k6 has to end itself once it was interrupted."""
EVERY_S: Final = 10.0
_ABORTED: Final = "stopping test prematurely"
_LONGEST_LINE: Final = 1 << 20

Say = Callable[[str], None]


class K6Error(RuntimeError):
    """k6 is not there, or could not run. The message is a sentence."""


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario as k6 ran it.

    Args:
        began: seconds since 1970, as `ended`; the warm-up is before it.
        samples: every request after the warm-up.
        dropped: iterations that could not begin in time, those of the warm-up among them.
        crossed: k6's own thresholds that did not hold, such as `http_req_failed{kind:lead} rate<=0.01`.
        aborted: why k6 ended the run early; empty where it did not.
        series: what k6 wrote point by point (`--out json`).
    """

    scenario: Scenario
    began: float
    ended: float
    samples: tuple[Sample, ...]
    dropped: int
    crossed: tuple[str, ...]
    aborted: str
    series: Path

    def endpoints(self, phase: Phase) -> tuple[EndpointResult, ...]:
        """By kind, in the order of the plan."""
        return tuple(endpoint(kind, self.samples, promised_s(phase)) for kind in self.scenario.rates)

    def questions(self, phase: Phase) -> EndpointResult:
        return endpoint(Kind.QUESTION, self.samples, promised_s(phase))

    @property
    def errors(self) -> Mapping[str, int]:
        return failures(self.samples)

    def cached(self, *kinds: Kind) -> int:
        """Answered questions of these kinds that a cache answered."""
        return sum(each.ok and each.cache != "none" for each in self.samples if each.kind in kinds)


def promised_s(phase: Phase) -> float:
    """Seconds within which an answer is a good one."""
    return phase.targets.answer_p99_s or phase.targets.answer_p50_s


def find_k6() -> Path:
    """On the PATH, else beside this interpreter. Raises K6Error."""
    found = shutil.which("k6") or shutil.which("k6", path=str(Path(sys.executable).parent))
    if found is None:
        raise K6Error("k6 is neither on the PATH nor in .venv/bin: install it, or run `make .venv/.dev`.")
    return Path(found)


@dataclass
class K6:
    """Runs scenarios, one at a time. `say` is told how it goes, about every ten seconds."""

    program: Path = field(default_factory=find_k6)
    say: Say = print
    _process: asyncio.subprocess.Process | None = None

    def pid(self) -> int | None:
        """Of k6 while it runs."""
        return self._process.pid if self._process else None

    async def run(self, scenario: Scenario, phase: Phase, target: Target, folder: Path) -> Run:
        """To its end, or to where it is hopeless. Its plan, log and series are in `folder`.

        A cancelled run ends k6 before it is over. Raises K6Error where k6 cannot run the script.
        """
        files = _files(folder, scenario)
        files.plan.write_bytes(orjson.dumps(told(scenario, phase, target, _run_name(), files.summary)))
        began, samples = time.time(), _Samples(scenario, self.say)
        with files.log.open("wb") as errors:
            code = await self._to_its_end(_arguments(files), errors.fileno(), samples)
        dropped, crossed, aborted = _ended(code, files)
        measured = tuple(samples.measured)
        return Run(scenario, began + scenario.warm_s, time.time(), measured, dropped, crossed, aborted, files.series)

    async def _to_its_end(self, arguments: Sequence[str], errors: int, samples: "_Samples") -> int:
        # A session of its own: ctrl-C reaches k6 through us, once.
        self._process = process = await asyncio.create_subprocess_exec(
            self.program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=_LONGEST_LINE,
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            async for line in process.stdout:
                samples.take(line)
            return await process.wait()
        finally:
            await _end(process)
            self._process = None


@dataclass
class _Samples:
    """Takes the script's lines as they come, and says now and then how it goes."""

    scenario: Scenario
    say: Say
    measured: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._began = self._said = time.monotonic()

    def take(self, line: bytes) -> None:
        found = read_line(line)
        if found and found[1]:
            self.measured.append(found[0])
        if time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            self.say(self._progress())

    def _progress(self) -> str:
        fine = quantiles([each.answer_s for each in self.measured if each.ok and each.kind in SHARES])
        failed = sum(not each.ok for each in self.measured)
        times = f", questions p50 {fine.p50_s * 1000:.0f} ms, p95 {fine.p95_s * 1000:.0f} ms" if fine else ""
        passed = f"{self._said - self._began:.0f} of {self.scenario.seconds:.0f} s"
        return f"  {self.scenario.name}: {passed}, {len(self.measured)} requests, {failed} failed{times}"


def _run_name() -> str:
    """New with every run, and fit for a document's slug."""
    return new_id("run").replace("_", "-").lower()


@dataclass(frozen=True, slots=True)
class _Files:
    """Of one scenario."""

    plan: Path
    summary: Path
    log: Path
    series: Path


def _files(folder: Path, scenario: Scenario) -> _Files:
    """In a folder that is there afterwards; no summary of an earlier run is."""
    place, name = folder.resolve(), scenario.name
    (place / "series").mkdir(parents=True, exist_ok=True)
    plan, summary, log = (place / f"{name}.{what}" for what in ("plan.json", "summary.json", "log"))
    files = _Files(plan, summary, log, place / "series" / f"{name}.json.gz")
    files.summary.unlink(missing_ok=True)
    return files


def _ended(code: int, files: _Files) -> tuple[int, tuple[str, ...], str]:
    """The dropped iterations, the crossed thresholds, and those that ended the run early. Raises K6Error."""
    said = files.log.read_text(errors="replace").strip()
    if code not in (0, CROSSED) or not files.summary.exists():
        last = " ".join(said.splitlines()[-3:]) or "it said nothing."
        raise K6Error(f"k6 ended with {code}: {last}")
    dropped, crossed = read_summary(orjson.loads(files.summary.read_bytes()))
    # The phase's own say `<=`: those are judged, these end the run.
    ending = [each for each in crossed if "<=" not in each]
    return dropped, crossed, ", ".join(ending or crossed) if _ABORTED in said else ""


def read_summary(summary: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """The iterations that were dropped, and the thresholds that were crossed."""
    metrics: Mapping[str, Any] = summary["metrics"]
    crossed = [
        f"{name} {threshold}"
        for name, metric in metrics.items()
        for threshold, found in metric.get("thresholds", {}).items()
        if not found["ok"]
    ]
    dropped = metrics.get("dropped_iterations", {"values": {"count": 0}})
    return int(dropped["values"]["count"]), tuple(sorted(crossed))


def _arguments(files: _Files) -> Sequence[str]:
    return (
        *("run", "--quiet", "--no-color", "--no-usage-report", "--address", ""),
        *("--log-format", "raw", "--console-output", "/dev/stdout"),
        *("--out", f"json={files.series}", "--env", f"PLAN={files.plan}", str(SCRIPT)),
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """k6 writes what it has when it is interrupted; it is killed where it takes too long."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(SIGINT)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
