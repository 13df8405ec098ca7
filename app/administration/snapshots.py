"""`trellis knowledge snapshot`: what a Qdrant server holds of the bots' indexes, kept in a folder and put back."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import aiohttp
import typer
from rich.table import Table

from app.clock import system_clock
from app.console import out
from app.errors import ConfigError
from app.knowledge.snapshots import Node, Restored, keep, listed, restore, take_all, taken
from app.settings import load_settings, revealed

Result = TypeVar("Result")
snapshot = typer.Typer(no_args_is_help=True, help="Snapshots of the indexes on a Qdrant server.")
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the snapshots are kept.", file_okay=False)]
NodesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--node", help="A node's own address, once for each node of a cluster; TRELLIS_VECTORS_URL where not given."
    ),
]


@snapshot.command("create")
def create(
    folder: FolderOption,
    node: NodesOption = None,
    number: Annotated[int | None, typer.Option("--keep", min=1, help="Remove all but so many, the latest.")] = None,
) -> None:
    """Take a snapshot of every index and fetch it into a new folder."""
    made = _run(node, lambda nodes: take_all(nodes, folder, system_clock, out.print))
    saved = listed(made)
    out.print(f"{made}: {len(saved)} snapshots, {sum(one.size for one in saved):,} bytes.")
    for old in keep(folder, number) if number else ():
        out.print(f"Removed {old}.")


@snapshot.command("list")
def show(folder: FolderOption) -> None:
    """Show which snapshots there are."""
    table = Table("Folder", "Indexes", "Nodes", "Points", "Bytes")
    for one in taken(folder):
        saved = listed(one)
        points = sum(part.points for part in saved if part.node == 0)
        nodes, indexes = {part.node for part in saved}, {part.collection for part in saved}
        table.add_row(
            one.name, str(len(indexes)), str(len(nodes)), f"{points:,}", f"{sum(part.size for part in saved):,}"
        )
    out.print(table)


@snapshot.command("restore")
def put_back(
    source: Annotated[Path, typer.Argument(help="A folder that `create` made.", exists=True, file_okay=False)],
    node: NodesOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Put every index of a snapshot in the place of what the server has; others stay as they are."""
    saved = listed(source)
    if not yes:
        indexes = len({one.collection for one in saved})
        typer.confirm(f"{indexes} indexes will be as they were at {source.name}. Go on?", abort=True)
    restored = _run(node, lambda nodes: restore(nodes, source, out.print))
    out.print(_report(restored))
    out.print("A worker compares indexes with the documents every hour: it puts in what came since then.")
    if not all(one.whole for one in restored):
        raise typer.Exit(1)


def _report(restored: list[Restored]) -> Table:
    table = Table("Tenant", "Bot", "Points then", "Points now", "")
    for one in restored:
        where = (str(one.namespace.get(part, "?")) for part in ("tenant_id", "bot"))
        table.add_row(*where, f"{one.expected:,}", f"{one.found:,}", "whole" if one.whole else "NOT WHOLE")
    return table


def _run(addresses: list[str] | None, work: Callable[[list[Node]], Awaitable[Result]]) -> Result:
    settings = load_settings()
    url = settings.vectors_url
    if url is None:
        raise ConfigError(
            "There is no Qdrant server here (TRELLIS_VECTORS_URL): the embedded index lies in the data folder, and is "
            "made anew from the documents where it is missing."
        )

    async def within() -> Result:
        async with aiohttp.ClientSession(trust_env=False) as session:
            key = revealed(settings.vectors_key)
            return await work([Node(session, address, key) for address in addresses or [url]])

    return asyncio.run(within())
