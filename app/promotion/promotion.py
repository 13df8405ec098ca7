"""One promotion from its first check to its report, gone on with wherever a former run was ended.

Where it is, is read off the two gates, which alone decide who takes writes:

    source open,   target closed    rows are moved; the source takes writes
    source leased, target closed    the switch; when the lease ends without a word, the source takes writes again
    source closed, target closed    everything was verified: all that is left is to open the target
    source closed, target open      it is done; the other direction begins as `source open, target closed`
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from app.errors import Conflict, TrellisError, Unavailable
from app.ids import new_id
from app.promotion.compare import Verified
from app.promotion.moving import COPIED, Moving, noted
from app.promotion.report import KEPT, Report
from app.promotion.side import FINISHED, Gate, Side
from app.promotion.steps import Context, Step, StepReport
from app.promotion.tables import MovedTable

LEASE_MORE_S: Final = 2.0
"""A lease outlasts the time that a switch may take, so that it is never over while the switch is not."""
IDENTITY: Final = "promotion"
SWITCHED: Final = "switched"
"""The note on the target, as of before the source is closed for good: what was verified."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`switch_s`: so long may both sides refuse writes."""

    switch_s: float = 5.0


class Promotion:
    """Moves rows, and by its steps what is beside them, from `context.source_side` to `context.target_side`."""

    def __init__(
        self, context: Context, tables: Sequence[MovedTable], steps: Sequence[Step], limits: Limits | None = None
    ) -> None:
        self._context = context
        self._source: Side = context.source_side
        self._target: Side = context.target_side
        self._tables = tables
        self._steps = steps
        self._limits = limits or Limits()
        self._moving = Moving(self._source, self._target, tables, context.progress)
        self._told: dict[str, list[StepReport]] = {}
        self._switch_s = 0.0

    async def run(self) -> Report:
        """All of it. Raises TrellisError, with one sentence that says what to do; then nothing is lost, and the side
        that took writes still does, or the next run opens the other one. Conflict where another run has a side."""
        async with self._source.alone(), self._target.alone():
            return await self._run()

    async def _run(self) -> Report:
        started = time.monotonic()
        await self._prepare()
        if await self._target.gate() is Gate.OPEN:
            self._remember((await self._target.state())[SWITCHED])
        elif await self._source.gate() is Gate.CLOSED:
            self._remember((await self._target.state())[SWITCHED])
            await self._finish_switch()
        else:
            await self._source.open_writes()
            await self._move()
            await self._switch()
        for step in self._steps:
            await self._tell(step, await step.verify(self._context))
        report = self._report(time.monotonic() - started)
        await self._keep(report)
        return report

    async def _prepare(self) -> None:
        """Both sides belong to the same promotion, and the target is nobody else's."""
        here, there = await self._source.state(), await self._target.state()
        if FINISHED in here or FINISHED in there:
            raise Conflict("This promotion was ended for good (--finish): there is no way on, and none back.")
        identity = here.get(IDENTITY) or there.get(IDENTITY)
        if there.get(IDENTITY) != identity or (self._context.back and not identity):
            raise _foreign(self._target)
        if not there.get(IDENTITY):
            await self._refuse_rows()
        await self._source.install(closed=False)
        await self._target.install(closed=True)
        identity = identity or new_id("promotion")
        # First on the target: what it has may then be ours alone, also after a kill in between.
        for side in (self._target, self._source):
            async with side.writing() as writing:
                await writing.note(IDENTITY, identity)
        if await self._target.gate() is Gate.OPEN and await self._source.gate() is not Gate.CLOSED:
            raise Conflict(
                f"{self._source.name} and {self._target.name} both take writes: somebody took the promotion's triggers "
                "away. Start again on an empty database."
            )

    async def _refuse_rows(self) -> None:
        await self._target.install(closed=True)
        async with self._target.snapshot() as there:
            counts = {table.name: await there.count(table) for table in self._tables}
        full = [f"{name} ({rows})" for name, rows in counts.items() if rows]
        if full:
            await self._target.uninstall()
            raise Conflict(
                f"{self._target.name} is not empty: it has rows in {', '.join(full[:5])}. "
                "Name a database that only `trellis migrate` has seen, and start its servers after the promotion."
            )

    async def _move(self) -> None:
        await self._moving.copy()
        await self._moving.compare()
        for step in self._steps:
            await self._tell(step, await step.run(self._context))
        await self._moving.keep_up()

    async def _switch(self) -> None:
        started, limit = time.monotonic(), self._limits.switch_s
        try:
            async with asyncio.timeout(limit):
                await self._source.close_writes(limit + LEASE_MORE_S)
                await self._moving.settle()
                for step in self._steps:
                    await self._tell(step, await step.settle(self._context))
                await self._note_switch(time.monotonic() - started)
            if not await self._source.keep_closed():
                raise TimeoutError
        except TimeoutError:
            await self._source.open_writes()
            raise Unavailable(
                f"The switch took longer than {limit:g} s, so it was called off: nothing was lost, {self._source.name} "
                "takes writes. Run the same command again at a quieter hour, or with a higher --max-switch.",
                retry_after=60,
            ) from None
        except BaseException:
            await self._source.open_writes()
            raise
        await self._finish_switch()
        self._switch_s = time.monotonic() - started

    async def _note_switch(self, switch_s: float) -> None:
        tables = [asdict(table) for table in self._moving.comparison.verified]
        async with self._target.writing() as writing:
            await writing.note(SWITCHED, {"tables": tables, "switch_s": switch_s})

    def _remember(self, switched: Mapping[str, Any]) -> None:
        """What an earlier run verified, which ended before it could say so."""
        self._moving.comparison.verified = tuple(Verified(**table) for table in switched["tables"])
        self._switch_s = switched["switch_s"]

    async def _finish_switch(self) -> None:
        """The source is closed for good and all is verified."""
        async with self._source.writing() as writing:
            # On the way back, it has every row as of now.
            await writing.note(COPIED, noted(table.name for table in self._tables))
        async with self._target.writing() as writing:
            await writing.hand_over_jobs()
        await self._target.open_writes()

    async def _tell(self, step: Step, report: StepReport) -> None:
        self._told.setdefault(step.name, []).append(report)

    def _report(self, total_s: float) -> Report:
        moving = self._moving
        return Report(
            source=self._source.name,
            target=self._target.name,
            back=self._context.back,
            copied=moving.figures.copied,
            copy_s=moving.figures.seconds,
            changes_applied=moving.figures.applied,
            switch_s=self._switch_s,
            total_s=total_s,
            tables=moving.comparison.verified,
            steps=tuple(_merged(name, reports) for name, reports in self._told.items()),
        )

    async def _keep(self, report: Report) -> None:
        async with self._target.writing() as writing:
            await writing.note(KEPT, report.json().decode())


def _merged(name: str, reports: Sequence[StepReport]) -> StepReport:
    figures: dict[str, Any] = {}
    for report in reports:
        figures |= report.figures
    return StepReport(name, figures, tuple(finding for report in reports for finding in report.findings))


def _foreign(side: Side) -> TrellisError:
    return Conflict(
        f"{side.name} is not the other side of this promotion: check the addresses, or name an empty database."
    )
