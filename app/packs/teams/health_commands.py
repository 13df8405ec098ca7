"""`trellis teams clients` and `trellis teams health`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from app.pack import CommandRunner, Kit
from app.packs.teams.client_schemas import ClientDetail, ClientOut, ClientPage, HealthOut
from app.packs.teams.clients import ClientService
from app.packs.teams.health import HealthState
from app.packs.teams.health_room import HealthRoom
from app.principal import Principal

TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant to act for.")]
LOCAL = "local"


def add_health_commands(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    _add_clients(commands, run, out)
    _add_health(commands, run, out)


def _add_clients(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    @commands.command("clients")
    def clients(
        state: Annotated[HealthState | None, typer.Option(help="Only those in this state.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """List clients with their newest health score, newest first."""

        async def work(kit: Kit, principal: Principal) -> ClientPage:
            return await _service(kit).page(principal, state, "", None, limit)

        page = run(work, tenant)
        table = Table("Client", "Name", "Score", "State", "Scored")
        for one in page.items:
            table.add_row(one.external_id, one.name, *_score_cells(one))
        out.print(table)
        if page.next_cursor is not None:
            out.print(f"There are more: give --limit, up to 200, or page through GET /v1/teams/clients{_of(state)}.")


def _of(state: HealthState | None) -> str:
    return f"?state={state}" if state else ""


def _score_cells(one: ClientOut) -> tuple[str, str, str]:
    if one.health is None:
        return "", "not scored", ""
    return f"{one.health.score:.1f}", one.health.state, f"{one.health.at:%Y-%m-%d}"


def _add_health(commands: typer.Typer, run: CommandRunner, out: Console) -> None:
    @commands.command("health")
    def health(
        client: Annotated[str, typer.Argument(help="The client's external id, or ours.")],
        now: Annotated[bool, typer.Option("--now", help="Score it now, with the vendors' news.")] = False,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Show a client's health, factor by factor."""

        async def work(kit: Kit, principal: Principal) -> ClientDetail:
            service = _service(kit)
            if now:
                await service.score(principal, client)
            return await service.one(principal, client)

        found = run(work, tenant)
        if found.health is None:
            out.print(f"{found.name} has no score yet: add --now.", markup=False)
            raise typer.Exit(1)
        _print_health(out, found.name, found.health)


def _print_health(out: Console, name: str, health: HealthOut) -> None:
    title = f"{name}: {health.score:.1f} of 100, {health.state}"
    table = Table("Factor", "Value", "Weight", "Points", "Why", title=title)
    for factor in health.factors:
        value = "no data" if factor.value is None else f"{factor.value:.2f}"
        table.add_row(factor.name, value, f"{factor.weight:.0%}", f"{factor.points:.1f}", factor.sentence)
    out.print(table)
    if health.trend is not None:
        out.print(f"{health.trend.change:+.1f} against {health.trend.at:%Y-%m-%d}: {health.trend.direction}.")
    for note in health.notes:
        out.print(note, markup=False)


def _service(kit: Kit) -> ClientService:
    return HealthRoom.of(kit).service
