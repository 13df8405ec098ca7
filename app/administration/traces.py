"""`trellis trace`: where the time of a request went, from the traces that are kept in the data folder."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from app.console import out
from app.errors import ConfigError, NotFound
from app.settings import Settings, load_settings
from app.telemetry.kept import KeptTrace, TraceReader
from app.telemetry.tree import Line, lines

MAX_LISTED = 1_000


def trace(
    wanted: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="A trace's id or its start, or the id of a request, a decision or a job."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="How many of the last traces to list.")] = 20,
) -> None:
    """Show one trace as a tree with times, or list the last ones."""
    settings = load_settings()
    _check_kept(settings)
    reader = TraceReader(settings.home)
    if wanted is None:
        _list(reader.last(limit))
        return
    found = reader.find(wanted)
    if not found:
        raise NotFound(_why_not(settings, wanted))
    for one in found:
        _show(one, reader)


def _check_kept(settings: Settings) -> None:
    if settings.otlp_url is not None:
        raise ConfigError(f"Traces go to the collector at {settings.otlp_url}: look for them where it sends them.")
    if not settings.traces_kept:
        raise ConfigError("TRELLIS_TRACES_KEPT is 0: no trace is kept.")


def _why_not(settings: Settings, wanted: str) -> str:
    kept = f"There is no trace of '{wanted[:80]}' among the last {settings.traces_kept} in {settings.home}"
    if settings.sample_ratio < 1:
        return f"{kept}: {settings.sample_ratio:.0%} of all are kept, and those that failed or were slow."
    return f"{kept}: it is older, was made elsewhere, or ended less than two seconds ago."


def _list(found: list[KeptTrace]) -> None:
    if not found:
        out.print("No trace is kept yet: send a request.")
        return
    table = Table()
    table.add_column("Trace", no_wrap=True, min_width=32)
    for column in ("Began (UTC)", "What", "Process"):
        table.add_column(column, overflow="fold")
    for column in ("Took", "Spans"):
        table.add_column(column, justify="right", overflow="fold")
    # Whole in a narrow terminal too: it is what the list is looked at for.
    table.add_column("", no_wrap=True, min_width=len("failed"))
    for one in found:
        began = datetime.fromtimestamp(one.start / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        took, failed = seconds((one.end - one.start) / 1e9), Text("failed", "red") if one.failed else ""
        table.add_row(one.trace, began, Text(one.name), one.service, took, str(one.spans), failed)
    out.print(table)


def _show(trace_id: str, reader: TraceReader) -> None:
    tree = lines(reader.spans(trace_id))
    whole = max((line.begins + line.lasts for line in tree), default=0.0)
    out.print(f"Trace {trace_id}, {len(tree)} spans in {seconds(whole)}", highlight=False)
    table = Table(box=None, padding=(0, 1), show_edge=False)
    for column in ("After", "Took"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("What", overflow="fold")
    for line in tree:
        style = "red" if line.failed else "cyan"
        table.add_row(seconds(line.begins), seconds(line.lasts), Text(line.bar, style), _what(line))
    out.print(table)


def _what(line: Line) -> Text:
    text = Text("  " * line.depth)
    text.append(line.name, "bold red" if line.failed else "")
    if line.failed:
        text.append(" failed", "red")
    if line.depth == 0:
        text.append(f"  {line.service}", "dim")
    if line.orphan:
        text.append("  (what called it is not kept here)", "dim")
    if line.notes:
        text.append(f"  {', '.join(line.notes)}", "dim")
    return text


def seconds(value: float) -> str:
    """A time that a person can read: microseconds are told to none, minutes in seconds."""
    if value < 0.0995:
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
