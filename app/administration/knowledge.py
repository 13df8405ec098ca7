"""`trellis knowledge`: what the bots may rest their answers on."""

import typer

from app.administration.documents import add_documents
from app.administration.indexes import index
from app.administration.snapshots import snapshot

knowledge = typer.Typer(no_args_is_help=True, help="Documents of the bots, and their indexes.")
add_documents(knowledge)
knowledge.add_typer(index, name="index")
knowledge.add_typer(snapshot, name="snapshot")
