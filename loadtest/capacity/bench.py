"""The real thing: one replica of the phase with its servers, and k6."""

import os
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra.phases import Phase
from loadtest.capacity.finding import Found, Say, find, found, measured
from loadtest.capacity.judge import Step
from loadtest.capacity.kept import WORK, Kept
from loadtest.capacity.promise import beyond
from loadtest.capacity.written import write
from loadtest.house import House, house
from loadtest.k6 import K6
from loadtest.measure import meter
from loadtest.plan import mix, steady
from loadtest.running import machine, result_of, target_of
from loadtest.stub.pace import pace_of
from loadtest.verdict import doubts


@dataclass
class Bench:
    """Asks a house for one rate after the other. The house is only built where there is something left to ask."""

    phase: Phase
    folder: Path
    k6: K6
    say: Say
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    there: House | None = None
    made: int = 0

    async def ask(self, factor: float, seconds: float) -> Step:
        """Raises HouseError, K6Error."""
        self.there = self.there or await self._house()
        self.made += 1
        name = f"factor-{factor:.2f}-{self.made}"
        self.say(f"{name}: {seconds:.0f} s at {factor:.2f} times the replica's share")
        scenario = steady(name, mix(self.phase), factor, seconds)
        async with meter(self.there, self.k6.pid) as used:
            run = await self.k6.run(scenario, self.phase, target_of(self.there), self.folder / WORK)
        for doubt in doubts(name, used.parts):
            self.say(f"  {doubt}")
        within = used.own_share_histogram.within(self.phase.targets.own_share_p99_s)
        count = used.own_share_histogram.count
        slow = 0 if within is None else round((1 - within) * count)
        return Step(result_of(run, self.phase, used.parts, used.own_share, used.model_calls), count, slow)

    async def _house(self) -> House:
        place = self.folder / "house"
        self.stack.callback(shutil.rmtree, place, ignore_errors=True)
        pace = pace_of(self.phase)
        return await self.stack.enter_async_context(house(place, self.phase, model=pace, say=self.say))


async def search(
    phase: Phase, judged: Phase, kept: Kept, steps: Sequence[Step], say: Say
) -> tuple[Sequence[Step], Found]:
    """To its end; what was found is written to `infra/capacity.json`. Raises HouseError, K6Error.

    Args:
        judged: the phase with the targets that its replicas can keep (`promise.for_replicas`).
    """
    async with AsyncExitStack() as stack:
        bench = Bench(phase, kept.folder, K6(say=say), say, stack, made=len(steps))
        made = await find(judged, kept, steps, bench.ask, say)
    result, day = found(judged, made), datetime.now(UTC).date()
    write(phase, measured(phase, result, machine(), os.cpu_count() or 1, day, beyond(phase, pace_of(phase))))
    return made, result
