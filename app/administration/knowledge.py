"""`trellis knowledge`: what the bots may rest their answers on."""

import typer

knowledge = typer.Typer(no_args_is_help=True, help="Documents of the bots, and their indexes.")
