"""`trellis treatments demo`: a run over the bank's customers, killed in the middle, proven and measured."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import BaseModel
from rich.console import Console

from app.errors import ConfigError, InvalidInput
from app.packs.treatments.allocating import AllocationRepository
from app.packs.treatments.demo_data import Scale, bank_file, check
from app.packs.treatments.demo_figures import Figures, floors_of, judgement_of, rows_of, times_of
from app.packs.treatments.demo_folder import Plan, demo_folder
from app.packs.treatments.demo_results import read_results
from app.packs.treatments.demo_run import LOCAL, RESULTS, DemoRun
from app.packs.treatments.demo_view import LIMITS, compared, figures_table
from app.packs.treatments.models import ResultState, Run
from app.packs.treatments.schemas_allocation import AllocationOut
from app.packs.treatments.schemas_runs import RunOut
from app.process import cancelled_by

DATA: Final = Path("../shared/data")
MOST: Final = 1.10
"""Times the memory of the small run that the large one is to take at most."""
DataOption = Annotated[
    Path, typer.Option(help="bank_contacts.csv of UCI Bank Marketing, or its folder.", envvar="TRELLIS_DATA")
]
Customers = Annotated[int, typer.Option(min=20, help="How many, oldest contact first.")]
Judged = Annotated[int, typer.Option(min=1, help="The last of them, whose outcomes are not shown but judged by.")]
Compare = Annotated[int, typer.Option(min=0, help="Do the same with so many first; left out unless it is fewer.")]
Keep = Annotated[Path | None, typer.Option(help="Work in this folder and leave it there; go on where it was.")]
KillOption = Annotated[bool, typer.Option("--kill/--no-kill", help="Kill the worker in the middle (SIGKILL).")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the figures there too.")]


class Written(BaseModel):
    """What `--json` writes: the small run first."""

    runs: list[Figures]


def add_demo(commands: typer.Typer, out: Console) -> None:
    @commands.command("demo")
    def demo(
        data: DataOption = DATA,
        customers: Customers = 40_000,
        judged: Judged = 10_000,
        compare: Compare = 4_000,
        keep: Keep = None,
        kill: KillOption = True,
        as_json: JsonOption = None,
    ) -> None:
        """Decide about a bank's customers, kill the worker in the middle, go on, and show what came of it."""
        if judged >= customers:
            raise InvalidInput("--judged has to be fewer than --customers: the others are what is learned from.")
        path = bank_file(data)
        plan = Plan(data=check(path, customers), customers=customers, judged=judged)
        scales = [Scale(customers, judged)]
        if 20 <= compare < customers:
            scales.insert(0, Scale(compare, max(1, judged * compare // customers)))
        with demo_folder(keep, plan) as folder:
            figures = _carried_out([DemoRun(path, one, folder / _name(one), out, kills=kill) for one in scales])
        _tell(out, figures, as_json)


def _name(scale: Scale) -> str:
    return f"customers-{scale.customers}"


def _carried_out(runs: list[DemoRun]) -> list[Figures]:
    """Raises typer.Exit where it was interrupted."""

    async def all_of_them() -> list[Figures]:
        with cancelled_by(signal.SIGTERM):
            return [await _carry_out(run) for run in runs]

    try:
        return asyncio.run(all_of_them())
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


async def _carry_out(demo: DemoRun) -> Figures:
    try:
        run = await demo.carry_out()
        return await _figures(demo, run)
    finally:
        await demo.close()


async def _figures(demo: DemoRun, run: Run) -> Figures:
    told = await asyncio.to_thread(read_results, demo.home / RESULTS)
    async with demo.db.reading(run.tenant_id) as session:
        allocated = await AllocationRepository(session, LOCAL).newest(run.id)
        if allocated is None:
            raise ConfigError("Nothing was allocated: no customer may have anything.")
        rows = await rows_of(session, run)
        work_s, stopped_s = await times_of(session, run, demo.steps.progress)
    allocation, ended = AllocationOut.of(allocated), run.finished_at or run.created_at
    return Figures(
        **rows.model_dump(),
        run=RunOut.of(run, None, ended),
        customers=demo.scale.customers,
        exported=told.lines,
        exported_different=len(told.customers),
        kills=demo.steps.progress.kills,
        peaks=[worker.peak for worker in demo.steps.progress.workers],
        work_s=work_s,
        stopped_s=stopped_s,
        wall_s=(ended - (run.started_at or run.created_at)).total_seconds(),
        customers_a_second=run.finished / work_s if work_s > 0 else 0.0,
        allocation=allocation,
        floors=floors_of(allocation, told),
        queue=rows.states.get(ResultState.QUEUED, 0),
        judgement=judgement_of(await asyncio.to_thread(demo.judged), told),
    )


def _tell(out: Console, figures: list[Figures], as_json: Path | None) -> None:
    """Raises typer.Exit with 1 where a customer was decided twice, or not at all."""
    out.print(figures_table(figures))
    if len(figures) > 1:
        out.print(compared(figures[-1], figures[0], MOST), soft_wrap=True)
    out.print(LIMITS, soft_wrap=True)
    if as_json is not None:
        try:
            as_json.write_text(Written(runs=figures).model_dump_json(indent=2))
        except OSError as error:
            raise InvalidInput(f"{as_json} cannot be written ({error.strerror}).") from None
    if not all(one.exactly_once for one in figures):
        raise typer.Exit(1)
