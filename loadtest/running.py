"""One scenario over a house: k6 asks, the meter watches, the phase's thresholds judge."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from infra.phases import Phase
from loadtest.house import House
from loadtest.k6 import K6, Run
from loadtest.measure import meter
from loadtest.plan import Scenario
from loadtest.results import PartUse, Quantiles, ScenarioResult
from loadtest.script import Target
from loadtest.verdict import judge

BUSY: Final = 0.25
"""Of the cores, by load average: above it somebody else was at work before the run."""
ROOT: Final = Path(__file__).parent.parent
_CPUINFO: Final = Path("/proc/cpuinfo")


async def run_scenario(k6: K6, scenario: Scenario, phase: Phase, house: House, folder: Path) -> ScenarioResult:
    """To its end. k6's files are in `folder`. Raises K6Error, and HouseError where the house does not answer."""
    async with meter(house, k6.pid) as used:
        run = await k6.run(scenario, phase, target_of(house), folder)
    return result_of(run, phase, used.parts, used.own_share, used.model_calls)


def result_of(
    run: Run,
    phase: Phase,
    parts: Sequence[PartUse] = (),
    own: Quantiles | None = None,
    model_calls: int = 0,
) -> ScenarioResult:
    """What k6 saw, with what was seen from inside (`own`, `parts`, `model_calls`), judged."""
    return ScenarioResult(
        name=run.scenario.name,
        factor=run.scenario.factor,
        began=run.began,
        ended=run.ended,
        endpoints=run.endpoints(phase),
        dropped=run.dropped,
        own_share=own,
        parts=tuple(parts),
        checks=judge(run, phase, own),
        model_calls=model_calls,
        errors=run.errors,
        aborted=run.aborted,
        questions=run.questions(phase),
    )


def target_of(house: House) -> Target:
    return Target(house.address, house.keys, house.bot, house.filled, house.known, house.asked)


def machine() -> str:
    """Processor, cores and kernel, the same in every run on one machine."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def revision() -> str:
    """The commit that is measured, with `-dirty` where files differ from it; `unknown` outside a repository."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    asked = [git, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)  # noqa: S603 - no word of it is given
    return found.stdout.strip() or "unknown"


def busy() -> tuple[str, ...]:
    """A sentence where the machine is at work for somebody else."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= BUSY * cores:
        return ()
    return (f"The machine was at work before the run: load average {load:.1f} on {cores} cores. Times are too high.",)


def _processor() -> str:
    if not _CPUINFO.exists():
        return platform.processor() or platform.machine()
    said: Mapping[str, str] = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in _CPUINFO.read_text().splitlines())
    }
    return said.get("model name", platform.machine())
