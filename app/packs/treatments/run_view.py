"""Runs as the terminal shows them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from app.packs.treatments.models import RunState
from app.packs.treatments.schemas_runs import RunOut

LOOK_S: Final = 0.5
UNTAKEN_S: Final = 10.0
UNTAKEN: Final = "No worker has taken it up yet: is the server running (trellis up), or a worker (trellis worker)?"
STANDING: Final = (RunState.DONE, RunState.CANCELLED, RunState.FAILED)


async def watch(look: Callable[[], Awaitable[RunOut]], out: Console, every_s: float = LOOK_S) -> RunOut:
    """Shows a bar until the run has ended, or waits for a person; how it stands then."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[more]}"))
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("queued", total=None, more="")
        queued_s, said = 0.0, ""
        while True:
            run = await look()
            bar.update(task, description=run.state, completed=run.finished, total=run.total or None, more=_beside(run))
            if run.state in STANDING or (run.state == RunState.PAUSED and run.resume_at is None):
                return run
            if run.state == RunState.PAUSED and run.reason != said:
                said = run.reason
                out.print(_beside(run))
            queued_s = queued_s + every_s if run.state == RunState.QUEUED else 0.0
            if UNTAKEN_S <= queued_s < UNTAKEN_S + every_s:
                out.print(UNTAKEN)
            await asyncio.sleep(every_s)


def _beside(run: RunOut) -> str:
    if run.state == RunState.PAUSED:
        return f"{run.reason} Goes on at {run.resume_at:%Y-%m-%d %H:%M} UTC."
    told = [f"{run.rate:,.0f}/s"] if run.rate else []
    if run.seconds_left is not None:
        told.append(f"{duration(run.seconds_left)} left")
    told.append(f"{run.cost_usd:.4f} USD")
    return "  ".join(told)


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def runs_table(runs: Sequence[RunOut]) -> Table:
    table = Table()
    table.add_column("Id", no_wrap=True, min_width=30)
    for name in ("State", "Over", "Done", "USD", "Made"):
        table.add_column(name, overflow="fold")
    for run in runs:
        done = f"{run.finished}/{run.total}"
        table.add_row(
            run.id,
            run.state,
            scope_in_words(run.scope),
            done,
            f"{run.cost_usd:.4f}",
            f"{run.created_at:%m-%d %H:%M}",
        )
    table.caption = "More of one, and why it stands still: trellis treatments show RUN"
    return table


def one_run(run: RunOut) -> Table:
    """Every figure of a run, a line each."""
    table = Table(show_header=False, title=run.id, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _lines(run):
        if value:
            table.add_row(name, value)
    return table


def _lines(run: RunOut) -> list[tuple[str, str]]:
    left = "" if run.seconds_left is None else f", {duration(run.seconds_left)} left"
    rate = f"{run.rate:,.1f} customers a second{left}" if run.rate else ""
    projected = "" if run.projected_cost_usd is None else f", {run.projected_cost_usd:.4f} projected"
    cap = "" if run.max_cost_usd is None else f", at most {run.max_cost_usd:.2f}"
    return [
        ("State", run.state),
        ("Reason", run.reason),
        ("Over", scope_in_words(run.scope)),
        ("Customers", f"{run.finished} of {run.total}, {run.set_aside} set aside"),
        ("Rate", rate),
        ("Chunks", f"{run.chunks}, {run.chunks_open} under way"),
        ("Model", f"calls {run.model_calls}, answers shared {run.shared_answers}, tokens {run.tokens}"),
        ("Cost", f"{run.cost_usd:.4f} USD{projected}{cap}"),
        ("Held back", f"{100 * run.control_share:.3g}% of the customers, seed {run.seed}"),
        ("Catalogue", f"version {run.catalogue_version}"),
        ("Window", run.window and f"{run.window} UTC"),
        ("Priority", str(run.priority)),
        ("Made", f"{run.created_at:%Y-%m-%d %H:%M} UTC by {run.created_by}, histories up to {run.as_of:%Y-%m-%d}"),
        ("Goes on", f"{run.resume_at:%Y-%m-%d %H:%M} UTC" if run.resume_at else ""),
        ("Ended", f"{run.finished_at:%Y-%m-%d %H:%M} UTC, {duration(run.worked_s)} at work" if run.finished_at else ""),
    ]


def scope_in_words(scope: Mapping[str, Any]) -> str:
    """Whom a run is over."""
    if "segment" in scope:
        return f"segment {scope['segment']}"
    return "a list" if "listed" in scope else "all"
