"""What every command shares: the opened container, the operator, the tenant, where to print."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from app import launch
from app.container import LOCAL_TENANT, Container, Parts, open_container
from app.plain_console import PlainConsole
from app.principal import Principal, Role, Tier
from app.settings import load_settings

Result = TypeVar("Result")
LOCAL = LOCAL_TENANT
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant to act for.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="The server; this machine's where not given.")]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="TRELLIS_KEY",
        show_envvar=True,
        help="An API key; this machine's own where not given. As an option it is seen in the list of processes.",
    ),
]
ID_WIDTH = 30


out = PlainConsole()


def with_ids(*columns: str) -> Table:
    """A table whose first column, the id, is never cut: the next command needs it whole."""
    table = Table()
    table.add_column("Id", no_wrap=True, min_width=ID_WIDTH)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


async def _with_container(
    tenant: str, work: Callable[[Container, Principal], Awaitable[Result]], parts: Parts
) -> Result:
    settings = load_settings()
    launch.prepare_home(settings)
    async with open_container(settings, parts) as container:
        return await work(container, operator(tenant))


def run(tenant: str, work: Callable[[Container, Principal], Awaitable[Result]], parts: Parts = Parts.COMMAND) -> Result:
    """One command's work on an opened container."""
    return asyncio.run(_with_container(tenant, work, parts))


def operator(tenant: str) -> Principal:
    """Whoever may run commands on this machine acts as an admin of the tenant they name."""
    return Principal(tenant_id=tenant, actor=f"cli:{getpass.getuser()}", role=Role.ADMIN, tier=Tier.PRO)
