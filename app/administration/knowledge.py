"""`trellis knowledge`: what the bots may rest their answers on."""

import typer

from app.administration.indexes import index

knowledge = typer.Typer(no_args_is_help=True, help="Documents of the bots, and their indexes.")
knowledge.add_typer(index, name="index")
