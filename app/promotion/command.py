"""`trellis promote`: the way up to the next phase, and back."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from sqlalchemy.engine import make_url

from app import launch
from app.console import out
from app.errors import InvalidInput
from app.promotion.beside import open_steps
from app.promotion.checklist import Line, checked, show
from app.promotion.checks import check_phases, check_schemas
from app.promotion.ending import finish, standing
from app.promotion.postgres_side import PostgresSide
from app.promotion.promotion import Limits, Promotion
from app.promotion.report import Report
from app.promotion.side import Side
from app.promotion.sqlite_side import SqliteSide
from app.promotion.steps import Context, Progress
from app.promotion.tables import moved_tables
from app.promotion.target import look_at_target, refuse
from app.settings import Settings, load_settings, load_settings_file
from infra.phases import PhaseName

TOLD_EVERY_S: Final = 1.0
REPORT: Final = "promotion.json"


class Told:
    """Prints how far it is, at most once a second while the same thing is under way."""

    def __init__(self) -> None:
        self._what = ""
        self._at = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what.split()[0] == self._what and now - self._at < TOLD_EVERY_S:
            return
        self._what, self._at = what.split()[0], now
        out.print(f"{what}: {done}{f' of {total}' if total else ''}", highlight=False)


def open_side(settings: Settings) -> Side:
    """The database of these settings, with the login that owns its tables. Connects to nothing yet."""
    url = make_url(settings.owner_database_url)
    if url.get_backend_name() == "sqlite":
        return SqliteSide(Path(str(url.database)), moved_tables())
    return PostgresSide(settings.owner_database_url, moved_tables())


@asynccontextmanager
async def opened(source: Settings, target: Settings, progress: Progress) -> AsyncIterator[Context]:
    """Both sides, of one schema."""
    here, there = open_side(source), open_side(target)
    try:
        await check_schemas((here, source), (there, target))
        yield Context(source, target, here, there, progress)
    finally:
        for side in (here, there):
            await side.close()


def turned(context: Context) -> Context:
    """The way back."""
    return replace(
        context,
        source=context.target,
        target=context.source,
        source_side=context.target_side,
        target_side=context.source_side,
        back=True,
    )


async def moved(context: Context, max_switch: float) -> Report:
    """Raises ConfigError for a target that is not ready; then nothing was changed."""
    if not context.back and not await context.target_side.installed():
        refuse(await look_at_target(context.source, context.target, context.target_side, moved_tables()))
    async with open_steps(context.source, context.target, back=context.back) as steps:
        return await Promotion(context, moved_tables(), steps, Limits(max_switch)).run()


def promote(
    from_: Annotated[PhaseName, typer.Option("--from", help="The phase of this process's settings.")],
    to: Annotated[PhaseName, typer.Option("--to", help="The phase to move to.")],
    target: Annotated[Path, typer.Option(help="A file of TRELLIS_* lines: the settings of the other side.")],
    rollback: Annotated[bool, typer.Option("--rollback", help="Back, with what was written since.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how far it is, and change nothing.")] = False,
    end: Annotated[
        bool, typer.Option("--finish", help="Take the change log away for good: no way back after it.")
    ] = False,
    listed: Annotated[bool, typer.Option("--checklist", help="Print what is done and what is not, and end.")] = False,
    max_switch: Annotated[float, typer.Option(min=0.5, max=60, help="Seconds that no side may take writes.")] = 5.0,
    report: Annotated[Path | None, typer.Option(help="Where the report goes (JSON); else the data folder.")] = None,
) -> None:
    """Move this installation to another phase's backends, or back. Run it again after an interruption: it goes on."""
    if rollback + status + end + listed > 1:
        raise InvalidInput("Of --rollback, --status, --finish and --checklist one at a time.")
    source, other = load_settings(), load_settings_file(target)
    check_phases(source, other, from_, to)
    launch.prepare_home(source)
    if listed:
        show(asyncio.run(_checked(source, other)), out)
        return
    if status or end:
        asyncio.run(_tell_or_end(source, other, end=end))
        return
    done = asyncio.run(_move(source, other, back=rollback, max_switch=max_switch))
    done.show(out)
    lines = () if rollback else asyncio.run(_checked(source, other))
    show(lines, out)
    where = report or source.home / REPORT
    where.write_bytes(done.json(checklist=lines))
    out.print(f"The report is in {where}.", soft_wrap=True, highlight=False)
    if done.failed:
        raise typer.Exit(1)


async def _move(source: Settings, other: Settings, *, back: bool, max_switch: float) -> Report:
    async with opened(source, other, Told()) as context:
        return await moved(turned(context) if back else context, max_switch)


async def _checked(source: Settings, other: Settings) -> tuple[Line, ...]:
    side = open_side(other)
    try:
        return await checked(source, other, side)
    finally:
        await side.close()


async def _tell_or_end(source: Settings, other: Settings, *, end: bool) -> None:
    async with opened(source, other, Told()) as context:
        here, there = context.source_side, context.target_side
        lines = [await finish(here, there)] if end else await standing(here, there, moved_tables())
    for line in lines:
        out.print(line, soft_wrap=True, highlight=False)
