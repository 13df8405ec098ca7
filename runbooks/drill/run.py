"""Rehearses a page: the system is broken, the alert fires, the page's own blocks run, the recovery query is green."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from runbooks.drill.blocks import ROOT, Output, Terminal, ask
from runbooks.drill.rehearsal import Rehearsal, Rollback, Stage
from runbooks.drill.table import Drilled, Outcome
from runbooks.pages import Block, Kind, Page, PageError, read_page, stamped
from tests.support.components import COMPONENTS

PAGES: Final = ROOT / "runbooks"
VERIFY_S: Final = 30.0
"""The longest that a block which only reads is asked again until it answers as its page says."""
EVERY_S: Final = 0.5
Tell = Callable[[str], None]


class DrillFailed(Exception):
    """Why the page did not mend the system; with the block's place and what it answered, where a block is why."""


async def drill(rehearsal: Rehearsal, tell: Tell, *, pages: Path = PAGES, stamp: bool = True) -> Drilled:
    """One rehearsal in a folder of its own, which is kept where it fails, and the page's stamp where it does not.

    Raises nothing of the rehearsal's own: an error in it is a drill that failed.
    """
    absent = [need for need in rehearsal.needs if COMPONENTS[need].find() is None]
    if absent:
        return Drilled(rehearsal.name, Outcome.SKIPPED, why=f"needs {', '.join(absent)} (make deps)")
    folder = Path(tempfile.mkdtemp(prefix=f"trellis-drill-{rehearsal.name}-"))
    try:
        result = await _on_stage(rehearsal, folder, tell, pages)
    except Exception as error:
        tell(f"what its processes wrote stays in {folder}")
        return Drilled(rehearsal.name, Outcome.FAILED, why=_reason(error))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    if stamp:
        path = pages / f"{rehearsal.page}.md"
        path.write_text(stamped(path.read_text("utf-8"), result.stamp(datetime.now(UTC).date())), "utf-8")
    return result


async def _on_stage(rehearsal: Rehearsal, folder: Path, tell: Tell, pages: Path) -> Drilled:
    page = read_page(pages / f"{rehearsal.page}.md")
    (folder / "stage").mkdir()
    tell("setting the stage")
    async with rehearsal.stage(folder / "stage") as stage:
        with Terminal(folder / "terminal", stage) as terminal:
            return await _Run(rehearsal, page, stage, terminal, tell).rehearse()


def _reason(error: Exception) -> str:
    told = str(error)
    known = isinstance(error, DrillFailed | PageError) or (isinstance(error, AssertionError) and told)
    return told if known else f"{type(error).__name__}: {told}"


@dataclass
class _Run:
    rehearsal: Rehearsal
    page: Page
    stage: Stage
    terminal: Terminal
    tell: Tell
    ran: list[Block] = field(default_factory=list)

    async def rehearse(self) -> Drilled:
        """Raises DrillFailed, and whatever the stage raises."""
        await self._healthy()
        self.tell("breaking it")
        await self.stage.break_it()
        broken = time.monotonic()
        await self._until(self._detected, f"{self._sign} within {self.rehearsal.wait_s:g} s of the fault")
        detected = time.monotonic()
        self.tell(f"detected: {self._sign}")
        await self._work()
        await self._recovered("after the page's steps")
        recovered = time.monotonic()
        self.tell("recovered")
        await self._step_back()
        lost = await self.stage.lost()
        return Drilled(self.rehearsal.name, Outcome.RECOVERED, detected - broken, recovered - detected, lost)

    async def _healthy(self) -> None:
        """A rehearsal that begins broken, or alarmed, shows nothing."""
        if not any(block.kind is not Kind.VERIFY for block in self._to_run()):
            raise DrillFailed("the page has no block that changes anything: nothing would be rehearsed")
        if not [block for block in self.page.of("Verify recovery") if not block.not_run]:
            raise DrillFailed("the page has no block under Verify recovery that can run here")
        await self._recovered("before the fault: the stage is not healthy")
        if await self._detected():
            raise DrillFailed(f"before the fault there is already {self._sign}")
        self.tell("healthy")

    async def _work(self) -> None:
        for block in self._to_run():
            await self._run(block)

    def _to_run(self) -> list[Block]:
        steps = self.rehearsal.steps
        mitigate = [block for block in self.page.of("Mitigate") if steps is None or block.step in steps]
        fix = self._rollback() if self.rehearsal.rollback is Rollback.FIX else ()
        return [*self.page.of("Verify"), *mitigate, *fix]

    def _rollback(self) -> Sequence[Block]:
        return self.page.of("Rollback")

    async def _step_back(self) -> None:
        """What was done to mend it is taken back when the cause is gone, and all is still well."""
        if self.rehearsal.rollback is not Rollback.AFTER:
            return
        self.tell("the cause is taken away, and the steps are taken back")
        await self.stage.mend()
        for block in self._rollback():
            await self._run(block)
        await self._recovered("after the rollback")

    @property
    def _sign(self) -> str:
        alert = self.rehearsal.alert
        return f"the alert {alert}" if alert else "what the first block of Verify says"

    async def _detected(self) -> bool:
        if self.rehearsal.alert is None:
            first = self.page.of("Verify")[0]
            if not first.expects:
                raise DrillFailed(f"{self._place(first)}: without an alert, the page must say what this block answers")
            output = await self.terminal.run(first)
            return output.code == 0 and first.answered_by(output.out)
        if self.stage.prometheus is None:
            raise DrillFailed(f"the stage has no Prometheus that {self._sign} could fire in")
        query = f'ALERTS{{alertname="{self.rehearsal.alert}", alertstate="firing"}}'
        return bool((await ask(self.stage.prometheus, query)).out)

    async def _recovered(self, when: str) -> None:
        blocks = [block for block in self.page.of("Verify recovery") if not block.not_run]
        answers: list[tuple[Block, Output]] = []

        async def green() -> bool:
            answers[:] = [(block, await self.terminal.run(block)) for block in blocks]
            return all(_well(block, output) for block, output in answers)

        try:
            await self._until(green, "")
        except DrillFailed:
            block, output = next((each for each in answers if not _well(*each)), answers[-1])
            raise self._failed(block, output, f"the recovery is not green {when}") from None

    async def _until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + self.rehearsal.wait_s
        while not await holds():
            if time.monotonic() > deadline:
                raise DrillFailed(f"there was not {what}")
            await asyncio.sleep(EVERY_S)

    async def _run(self, block: Block) -> None:
        """What only reads is asked again for a while: what it reads may be about to come."""
        if block.not_run:
            self.tell(f"{self._place(block)}: not run here: {block.not_run}")
            return
        self.tell(f"{self._place(block)}: {block.body.strip().splitlines()[0]}")
        patience = VERIFY_S if block.kind is Kind.VERIFY else 0.0
        deadline = time.monotonic() + patience
        while True:
            output = await self._answer(block)
            if _well(block, output):
                return
            if time.monotonic() >= deadline:
                why = "it failed" if output.code else "it does not answer as the page says"
                raise self._failed(block, output, why)
            await asyncio.sleep(EVERY_S)

    async def _answer(self, block: Block) -> Output:
        try:
            return await self.terminal.run(block)
        except TimeoutError:
            raise DrillFailed(f"{self._place(block)}: it did not end in time\n{block.body}") from None

    def _place(self, block: Block) -> str:
        step = f", step {block.step}" if block.step else ""
        return f"{self.page.name}.md:{block.line} ({block.section}{step})"

    def _failed(self, block: Block, output: Output, why: str) -> DrillFailed:
        says = f"\nexpected: {block.expects}" if block.expects else ""
        return DrillFailed(f"{why}: {self._place(block)}\n{block.body}{says}\n{output}")


def _well(block: Block, output: Output) -> bool:
    return output.code == 0 and block.answered_by(output.out)
