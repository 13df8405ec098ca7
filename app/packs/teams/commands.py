"""`trellis teams`: what works on this machine's own data; asking goes over the API (`app.administration.teams`)."""

import typer

from app.pack import CommandRunner
from app.packs.teams.health_commands import add_health_commands
from app.plain_console import PlainConsole


def build_commands(run: CommandRunner) -> typer.Typer:
    commands = typer.Typer(no_args_is_help=True, help="Teams of agents, and how clients are doing.")
    add_health_commands(commands, run, PlainConsole())
    return commands
