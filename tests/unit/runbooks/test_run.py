"""The runner, on a stage that is a file: what a page must do to count, and what each failure says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from runbooks.drill import run
from runbooks.drill.__main__ import UnknownPageError, choose, main, named
from runbooks.drill.rehearsal import Rehearsal, Rollback, Standing
from runbooks.drill.rehearsals import REHEARSALS
from runbooks.drill.run import drill
from runbooks.drill.table import Drilled, Outcome, table
from tests.support.pages import fence, page

SECTIONS = {
    "Verify": f"{fence('sh verify', 'cat state')}\nPrints `broken`.",
    "Mitigate": f"1. Mend:\n{fence('sh mutate', 'echo well > state; echo mended >> log', '   ')}",
    "Rollback": fence("sh rollback", "echo back >> log"),
    "Verify_recovery": f"{fence('sh verify', 'cat state')}\nPrints `well`.",
}


@dataclass(kw_only=True)
class Files(Standing):
    """The system is a file that says how it is."""

    folder: Path
    breaks: bool = True
    loses: bool = False
    mended: bool = False

    async def break_it(self) -> None:
        if self.breaks:
            (self.folder / "state").write_text("broken\n")

    async def mend(self) -> None:
        self.mended = True

    async def lost(self) -> str:
        assert not self.loses, "3 of 5 rows are gone"
        return "nothing of 5 rows"


class Theatre:
    """Pages and a stage in a temporary folder; `told` is what the runner said, `stages` those that were set."""

    def __init__(self, folder: Path) -> None:
        self.pages, self.files = folder / "pages", folder / "files"
        (self.pages / "procedures").mkdir(parents=True)
        self.files.mkdir()
        self.told: list[str] = []
        self.stages: list[Files] = []
        self.ended = 0
        self.begins, self.how = "well", dict[str, Any]()
        self.write()

    @property
    def path(self) -> Path:
        return self.pages / "procedures" / "x.md"

    def write(self, **bodies: str) -> None:
        text = page(**(SECTIONS | bodies))
        self.path.write_text(text.replace("state", f"{self.files}/state").replace(">> log", f">> {self.files}/log"))

    @asynccontextmanager
    async def stage(self, _folder: Path) -> AsyncIterator[Files]:
        (self.files / "state").write_text(f"{self.begins}\n")
        self.stages.append(Files(folder=self.files, **self.how))
        try:
            yield self.stages[-1]
        finally:
            self.ended += 1

    async def drill(self, **how: Any) -> Drilled:
        rehearsal = Rehearsal(page="procedures/x", alert=None, stage=self.stage, wait_s=0.3)
        return await drill(replace(rehearsal, **how), self.told.append, pages=self.pages)

    @property
    def log(self) -> str:
        path = self.files / "log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def theatre(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Theatre:
    monkeypatch.setattr(run, "VERIFY_S", 0.2)
    monkeypatch.setattr(run, "EVERY_S", 0.02)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Theatre(tmp_path)


def kept(theatre: Theatre) -> list[Path]:
    return [path for path in theatre.pages.parent.iterdir() if path.name.startswith("trellis-drill-")]


async def test_a_page_that_mends_the_system_is_stamped_and_its_folder_goes(theatre):
    found = await theatre.drill()
    assert (found.outcome, found.lost) == (Outcome.RECOVERED, "nothing of 5 rows")
    last = theatre.path.read_text().splitlines()[-1]
    assert last == f"Last drilled: {found.stamp(date.fromisoformat(last.split()[2].rstrip(',')))}"
    assert (theatre.log, theatre.ended, kept(theatre)) == ("mended\n", 1, [])


async def failure(theatre: Theatre, **how: Any) -> str:
    """Why it failed; and that it stamped nothing, kept its folder, and ended its stage."""
    before = theatre.path.read_text()
    found = await theatre.drill(**how)
    assert found.outcome is Outcome.FAILED
    assert theatre.path.read_text() == before
    assert len(kept(theatre)) == 1
    assert theatre.ended == len(theatre.stages)
    return found.why


async def test_a_stage_that_is_not_healthy_is_not_broken_further(theatre):
    theatre.begins = "ill"
    assert "before the fault: the stage is not healthy" in await failure(theatre)


async def test_a_sign_that_is_there_before_the_fault_shows_nothing(theatre):
    theatre.write(Verify=f"{fence('sh verify', 'cat state')}\nPrints `well` or `broken`.")
    assert "before the fault there is already" in await failure(theatre)


async def test_a_fault_that_nobody_sees_fails_the_drill(theatre):
    theatre.how = {"breaks": False}
    assert "there was not what the first block of Verify says within 0.3 s" in await failure(theatre)


async def test_a_step_that_fails_is_named_with_what_it_printed(theatre):
    theatre.write(Mitigate=f"1. Mend:\n{fence('sh mutate', 'echo no such pack >&2; exit 3', '   ')}")
    why = await failure(theatre)
    assert "(Mitigate, step 1)" in why
    assert "exit code 3\nno such pack" in why
    assert "x.md:" in why


async def test_a_block_that_answers_otherwise_than_the_page_says_fails_it(theatre):
    more = fence("sh verify", "echo 4")
    theatre.write(Verify=f"{SECTIONS['Verify']}\n\n{more}\nPrints `5`.")
    why = await failure(theatre)
    assert "it does not answer as the page says" in why
    assert "expected: `5`" in why


async def test_steps_that_do_not_mend_it_fail_the_drill(theatre):
    theatre.write(Mitigate=f"1. Hope:\n{fence('sh mutate', 'true', '   ')}")
    assert "the recovery is not green after the page's steps" in await failure(theatre)


async def test_a_page_that_changes_nothing_cannot_be_rehearsed(theatre):
    theatre.write(Mitigate="1. Wait.")
    assert "no block that changes anything" in await failure(theatre)


async def test_without_an_alert_the_page_must_say_what_its_first_block_answers(theatre):
    theatre.write(Verify=fence("sh verify", "cat state"))
    assert "the page must say what this block answers" in await failure(theatre)


async def test_what_was_lost_beyond_what_the_page_allows_fails_it(theatre):
    theatre.how = {"loses": True}
    assert (await failure(theatre)).startswith("3 of 5 rows are gone")


async def test_a_page_that_cannot_be_read_fails_before_anything_is_started(theatre):
    theatre.path.write_text("# x\n")
    assert "the last line" in await failure(theatre)
    assert theatre.stages == []


async def test_an_alert_needs_a_prometheus(theatre):
    assert "no Prometheus" in await failure(theatre, alert="ModelErrors")


async def test_the_rollback_is_tried_when_the_cause_is_gone(theatre):
    await theatre.drill(rollback=Rollback.AFTER)
    assert theatre.log == "mended\nback\n"
    assert theatre.stages[0].mended


async def test_the_rollback_may_be_a_part_of_the_fix(theatre):
    theatre.write(Mitigate="1. See below.", Rollback=fence("sh rollback", "echo well > state; echo back >> log"))
    assert (await theatre.drill(rollback=Rollback.FIX)).outcome is Outcome.RECOVERED
    assert (theatre.log, theatre.stages[0].mended) == ("back\n", False)


async def test_a_rollback_that_breaks_it_again_fails_the_drill(theatre):
    theatre.write(Rollback=fence("sh rollback", "echo broken > state"))
    assert "not green after the rollback" in await failure(theatre, rollback=Rollback.AFTER)


async def test_only_the_steps_that_fit_the_fault_run_and_a_marked_block_never_does(theatre):
    harm = fence("sh mutate", "exit 9", "   ")
    marked = fence('sh mutate not-run="needs an account"', "exit 8", "   ")
    theatre.write(Mitigate=f"1. Other:\n{harm}\n2. Later:\n{marked}\n3{SECTIONS['Mitigate'][1:]}")
    found = await theatre.drill(steps=frozenset({2, 3}))
    assert found.outcome is Outcome.RECOVERED
    assert any("not run here: needs an account" in line for line in theatre.told)


async def test_a_component_that_is_missing_skips_the_drill_with_its_name(theatre, monkeypatch):
    monkeypatch.setattr("tests.support.components.Component.find", lambda _self: None)
    found = await theatre.drill(needs=("postgres",))
    assert (found.outcome, found.why) == (Outcome.SKIPPED, "needs postgres (make deps)")
    assert theatre.stages == []


async def test_an_interruption_ends_the_stage_and_keeps_nothing(theatre):
    theatre.write(Mitigate=f"1. Mend:\n{fence('sh mutate', 'echo mended >> log; sleep 60', '   ')}")
    task = asyncio.create_task(theatre.drill())
    while not theatre.log:
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (theatre.ended, kept(theatre)) == (1, [])


def test_every_rehearsal_has_a_page_and_a_name_of_its_own():
    assert [each.page for each in REHEARSALS if not (run.PAGES / f"{each.page}.md").exists()] == []
    assert len({each.name for each in REHEARSALS}) == len(REHEARSALS)


def test_a_rehearsal_is_found_by_its_name_or_its_page():
    assert named("flags") is named("procedures/flags")
    assert choose(["flags"], every=False, ci=False) == [named("flags")]
    assert all(each.ci for each in choose([], every=False, ci=True))
    assert choose([], every=True, ci=False) == list(REHEARSALS)


def test_an_unknown_name_is_one_sentence_with_the_nearest_names():
    with pytest.raises(UnknownPageError, match=r"There is no runbook flogs\. Did you mean flags"):
        named("flogs")
    with pytest.raises(UnknownPageError, match="The page Watchdog has no rehearsal"):
        named("Watchdog")


@pytest.mark.parametrize("arguments", [["flogs"], []])
def test_what_cannot_begin_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    assert capsys.readouterr().err


Run = Callable[..., Any]


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.RECOVERED, 0), (Outcome.SKIPPED, 0), (Outcome.FAILED, 1)])
def test_the_exit_code_says_whether_a_drill_failed(
    outcome: Outcome, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def rehearsed(rehearsal: Rehearsal, _tell: Run, *, stamp: bool) -> Drilled:
        assert not stamp
        return Drilled(rehearsal.name, outcome, 12.4, 8.6, "nothing of 9 rows", "the reason\nand more")

    monkeypatch.setattr("runbooks.drill.__main__.drill", rehearsed)
    assert main(["flags", "--no-stamp"]) == code
    assert ("| 12 s" in capsys.readouterr().out) is (outcome is Outcome.RECOVERED)


def test_a_row_and_a_stamp_say_what_was_seen():
    well = Drilled("a", Outcome.RECOVERED, 12.4, 8.6, "nothing of 9 rows (2 late)")
    assert well.stamp(date(2026, 11, 22)) == (
        "2026-11-22, detected in 12 s, recovered in 9 s, nothing of 9 rows lost (2 late)"
    )
    lines = table([well, Drilled("b", Outcome.FAILED, why="the reason\nand more")]).splitlines()
    assert lines[0].split("|")[1:-1] == [cell for cell in lines[0].split("|")[1:-1] if cell.strip()]
    assert "nothing of 9 rows (2 late)" in lines[2]
    assert "the reason" in lines[3]
    assert "and more" not in lines[3]
