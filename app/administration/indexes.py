"""`trellis knowledge index`: build another index of a bot's documents beside, compare, switch, go back.

Everything here touches rows alone, so it works beside a running server; the server builds and compares.
"""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from app.console import LOCAL, TenantOption, out, run, with_ids
from app.container import Container
from app.errors import InvalidInput
from app.http.indexes import BoundsIn, GenerationOut, IndexOut, QuestionsIn, index_out, pointed
from app.knowledge.chunking import Bounds
from app.principal import Principal

index = typer.Typer(no_args_is_help=True, help="How a bot's documents are indexed.")
BotOption = Annotated[str, typer.Option("--bot", help="The bot whose documents they are.")]


@index.command("show")
def show(bot: BotOption, tenant: TenantOption = LOCAL) -> None:
    """Show the generations of a bot's index: which one answers, how far a candidate is, how it compares."""

    async def work(container: Container, principal: Principal) -> IndexOut:
        async with container.db.reading(principal.tenant_id) as session:
            return index_out(bot, await container.reindexing.view(session, principal, bot))

    found = run(tenant, work)
    table = with_ids("State", "Embedder and chunks", "On your questions")
    for one in found.generations:
        table.add_row(*_cells(one))
    out.print(table)
    out.print(f"{found.questions} questions in the evaluation set; version {found.version}.")


@index.command("rebuild")
def rebuild(
    bot: BotOption,
    embedder: Annotated[str | None, typer.Option(help="Another embedder, for example wordllama-128.")] = None,
    largest: Annotated[int | None, typer.Option(help="Characters of a chunk at most.")] = None,
    smallest: Annotated[int | None, typer.Option(help="Characters under which sections are joined.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Characters that a piece repeats.")] = None,
    tenant: TenantOption = LOCAL,
) -> None:
    """Let the server build another index of the bot's documents beside the one that answers."""
    given = {"largest": largest, "smallest": smallest, "overlap": overlap}
    sizes = {name: size for name, size in given.items() if size is not None}
    bounds = Bounds(**BoundsIn(**sizes).model_dump()) if sizes else None

    async def work(container: Container, principal: Principal) -> str:
        async with container.db.transaction(principal.tenant_id) as session:
            row, _ = await container.reindexing.build(session, principal, bot, embedder, bounds)
        return row.id

    out.print(f"{run(tenant, work)} is being built by the running server: `trellis knowledge index show --bot {bot}`.")


@index.command("compare")
def compare(bot: BotOption, generation: str, tenant: TenantOption = LOCAL) -> None:
    """Let the server ask the candidate and the active index the evaluation set again."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction(principal.tenant_id) as session:
            await container.reindexing.compare(session, principal, bot, generation)

    run(tenant, work)
    out.print(f"{generation} is being compared by the running server: `trellis knowledge index show --bot {bot}`.")


@index.command("questions")
def questions(
    bot: BotOption,
    file: Annotated[Path, typer.Argument(help='JSON: [{"question": "...", "slugs": ["..."]}, ...]', exists=True)],
    tenant: TenantOption = LOCAL,
) -> None:
    """Put the bot's evaluation set in place of the former."""
    asked = _read(file)

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction(principal.tenant_id) as session:
            await container.reindexing.ask(session, principal, bot, asked.questions)

    run(tenant, work)
    out.print(f"'{bot}' has {len(asked.questions)} questions.")


@index.command("switch")
def switch(
    bot: BotOption,
    generation: str,
    force: Annotated[bool, typer.Option("--force", help="Also where it is worse, or was not compared.")] = False,
    tenant: TenantOption = LOCAL,
) -> None:
    """Let the candidate answer; the one before is kept for `rollback`. Seen everywhere within a second."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction(principal.tenant_id) as session:
            await container.reindexing.switch(session, principal, bot, generation, force=force)

    run(tenant, work)
    out.print(f"{generation} answers for '{bot}'.")


@index.command("rollback")
def rollback(bot: BotOption, tenant: TenantOption = LOCAL) -> None:
    """Let the former index answer again. Seen everywhere within a second."""

    async def work(container: Container, principal: Principal) -> str:
        async with container.db.transaction(principal.tenant_id) as session:
            state = await container.reindexing.roll_back(session, principal, bot)
        return pointed(state.active, state.previous, state.version).active

    out.print(f"{run(tenant, work)} answers for '{bot}'.")


def _cells(one: GenerationOut) -> tuple[str, str, str, str]:
    state = [one.use, one.last_error or one.state]
    if one.documents_total is not None:
        state.append(f"{one.documents_done} of {one.documents_total} documents")
    size = f"{one.bounds.smallest}-{one.bounds.largest} characters, {one.bounds.overlap} again"
    figures = ""
    if one.report is not None:
        new, old = one.report.candidate, one.report.active
        figures = (
            f"nDCG@10 {new.ndcg_at_10:.3f} (now {old.ndcg_at_10:.3f})\n"
            f"recall@5 {new.recall_at_5:.3f} (now {old.recall_at_5:.3f})"
        )
    return one.id, "\n".join(state), f"{one.embedder}\n{size}", figures


def _read(file: Path) -> QuestionsIn:
    shape = f"{file} must hold a JSON list of objects with 'question' and 'slugs'"
    try:
        return QuestionsIn.model_validate({"questions": json.loads(file.read_bytes())})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the list"
        raise InvalidInput(f"{shape}: wrong at {where}: {first['msg']}.") from error
    except ValueError as error:
        raise InvalidInput(f"{shape}: {str(error).splitlines()[0]}.") from error
