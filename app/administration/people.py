"""`trellis people export, erase`: what is kept of one person, through the running server's API."""

import asyncio
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer
from rich.table import Table

from app.administration.rest import Rest
from app.console import UrlOption, out
from app.settings import load_settings

people = typer.Typer(no_args_is_help=True, help="Everything that is kept of one person.")
PersonArgument = Annotated[str, typer.Argument(help="An e-mail address, or the id of one of your users.")]
AdminKey = Annotated[str | None, typer.Option("--key", help="An admin's API key; this machine's where not given.")]


@people.command("export")
def people_export(
    person: PersonArgument,
    file: Annotated[Path | None, typer.Option("--file", help="Where to write it; shown where not given.")] = None,
    url: UrlOption = None,
    key: AdminKey = None,
) -> None:
    """Give out everything that is kept of a person, as JSON."""
    found = asyncio.run(_call("GET", person, url, key))
    if file is None:
        out.print_json(orjson.dumps(found).decode())
        return
    file.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    out.print(f"{sum(map(len, found['stores'].values()))} rows are in {file}.")


@people.command("erase")
def people_erase(
    person: PersonArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: UrlOption = None,
    key: AdminKey = None,
) -> None:
    """Erase a person everywhere, after showing under which names they are known."""
    if not yes:
        found = asyncio.run(_call("GET", person, url, key))
        names = [alias["value"] for alias in found["aliases"] if alias["kind"] in ("email", "user")]
        rows = sum(map(len, found["stores"].values()))
        typer.confirm(f"{rows} rows are kept of {', '.join(names)}. Erase them for good?", abort=True)
    _show(asyncio.run(_call("DELETE", person, url, key)))


def _show(done: dict[str, Any]) -> None:
    table = Table("Store", "Erased")
    for store, count in done["erased"].items():
        table.add_row(store, str(count))
    out.print(table)
    if done["pending"]:
        out.print(f"Not reached, a job erases them: {', '.join(done['pending'])}.")


async def _call(method: str, person: str, url: str | None, key: str | None) -> Any:
    path = f"/v1/people/{quote(person, safe='')}"
    async with Rest.open(load_settings(), url, key) as rest:
        return await (rest.get(path) if method == "GET" else rest.delete(path))
