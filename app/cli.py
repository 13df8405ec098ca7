"""`trellis`: every command of the app. Errors are one sentence on standard error and a non-zero exit."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop
from rich.console import Console

from app import launch, probe, serving
from app.administration import GROUPS
from app.administration.oncall import oncall
from app.administration.traces import trace
from app.console import LOCAL, TenantOption, out, run
from app.container import PACKS, Container, Move, migrate_database, plan_migration
from app.conversation.evaluation.cache import evaluate as evaluate_cache
from app.errors import ConfigError, TrellisError
from app.governance.decisions import explain
from app.governance.keys import require_tenant
from app.knowledge.evaluation.retrieval import evaluate as evaluate_retrieval
from app.pack import Kit
from app.principal import Principal
from app.process import end_on_sigterm, few_arenas
from app.promotion.command import promote
from app.settings import load_settings
from app.storage.revisions import HEAD, ONE_BACK
from app.terminal.command import chat

Result = TypeVar("Result")
DATA = Path("../shared/data")
DataOption = Annotated[Path, typer.Option(help="The folder with the data sets.", envvar="TRELLIS_DATA")]
cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Trellis: an LLM agent service.")
evals = typer.Typer(no_args_is_help=True, help="Evaluations on data.")
for name, group in {**GROUPS, "eval": evals}.items():
    cli.add_typer(group, name=name)


@cli.command()
def up(detach: Annotated[bool, typer.Option("--detach", help="Leave it running in the background.")] = False) -> None:
    """Start the PoC phase on this machine and watch the sample leads being decided."""
    launch.up(load_settings(), out, detach=detach)


@cli.command()
def down() -> None:
    """End what `trellis up --detach` started."""
    launch.down(load_settings(), out)


@cli.command()
def serve(sample: Annotated[bool, typer.Option("--sample", help="Load the sample that ships.")] = False) -> None:
    """Serve the API in the foreground, with the worker inside where the settings say so."""
    settings = load_settings()
    launch.prepare_home(settings)
    uvloop.run(serving.serve(settings, sample=sample))


@cli.command()
def migrate(
    to: Annotated[str | None, typer.Option(help="A revision, head or base (an empty database).")] = None,
    down: Annotated[bool, typer.Option("--down", help="Take revisions back: the newest, or all down to --to.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only print what would be run, and the locks it takes.")] = False,
) -> None:
    """Bring the database's schema up to this version, or to a revision. It may be in use meanwhile."""
    settings = load_settings()
    launch.prepare_home(settings)
    move = Move(to or (ONE_BACK if down else HEAD), down)
    if plan:
        lines = list(asyncio.run(plan_migration(settings, move)))
        print("\n".join(lines) if lines else "There is nothing to do.")
        return
    revision = asyncio.run(migrate_database(settings, move, partial(print, flush=True)))
    out.print(f"The database has schema {revision}.", highlight=False)


cli.command()(chat)
cli.command()(promote)
cli.command()(trace)
cli.command()(oncall)


@cli.command()
def api() -> None:
    """Serve the API without a worker inside: background jobs are `trellis worker`'s, in other processes."""
    settings = load_settings()
    if settings.database_url is None:
        raise ConfigError(
            "An embedded database has one process: use `trellis serve`, or set TRELLIS_DATABASE_URL to a server's."
        )
    launch.prepare_home(settings)
    uvloop.run(serving.serve(settings.model_copy(update={"worker": False}), sample=False))


@cli.command()
def worker() -> None:
    """Run background jobs only, without the API; probes and figures are served on the port."""
    settings = load_settings()
    launch.prepare_home(settings)
    uvloop.run(
        serving.work(settings, lambda: out.print(f"The worker runs, probes at {settings.address}. Ctrl-C ends it."))
    )


@cli.command()
def health(
    ready: Annotated[bool, typer.Option("--ready", help="Whether it takes requests.")] = False,
    startup: Annotated[bool, typer.Option("--startup", help="Whether it has started.")] = False,
) -> None:
    """Say how the process on this machine's port is; exit 1 where it is not well."""
    raise typer.Exit(probe.run(load_settings(), ready=ready, startup=startup))


@cli.command()
def replay(decision_id: str, tenant: TenantOption = LOCAL) -> None:
    """Make a stored decision again from what it saw, and say whether it came out the same."""

    async def work(container: Container, principal: Principal) -> bool:
        report = await container.replay(principal, decision_id)
        out.print(f"{report.decision_id}: {'the same decision' if report.same else 'another decision'}. {report.note}")
        for difference in report.differences:
            out.print(f"  {difference}", markup=False)
        return report.same

    if not run(tenant, work):
        raise typer.Exit(1)


@cli.command()
def explain_decision(decision_id: str, tenant: TenantOption = LOCAL) -> None:
    """Print why a decision came out as it did, as JSON."""

    async def work(container: Container, principal: Principal) -> str:
        return explain(await container.decision(principal, decision_id)).model_dump_json(indent=2)

    out.print_json(run(tenant, work))


def _add_packs() -> None:
    """Each pack's commands as `trellis <pack>`, its evaluation as `trellis eval <pack>`."""
    for pack in PACKS:
        if pack.commands is not None:
            # What works over the API has the same name: the two are one group.
            group = GROUPS.get(pack.name)
            if group is not None:
                group.add_typer(pack.commands(_run_kit))
            else:
                cli.add_typer(pack.commands(_run_kit), name=pack.name)
        if pack.learn is not None:
            pack.learn(cli, _run_kit)
        if pack.evaluate is not None:
            what = f"What the {pack.name} pack is worth on the data sets of a folder."
            _add_evaluation(pack.name, pack.evaluate, what)


def _run_kit(work: Callable[[Kit, Principal], Awaitable[Result]], tenant: str) -> Result:
    async def on_container(container: Container, principal: Principal) -> Result:
        async with container.db.reading(principal.tenant_id) as session:
            await require_tenant(session, principal.tenant_id)
        return await work(container.kit, principal)

    return run(tenant, on_container)


def _add_evaluation(name: str, evaluate: Callable[[Path, Console], Coroutine[Any, Any, None]], what: str) -> None:
    def command(data: DataOption = DATA) -> None:
        asyncio.run(evaluate(data, out))

    evals.command(name, help=what)(command)


@evals.command("cache")
def evaluate_answers_by_meaning(
    data: DataOption = DATA,
    plot: Annotated[Path | None, typer.Option(help="Where to write a picture of it (SVG).")] = None,
) -> None:
    """How often another question's answer is given, and to the wrong question, on banking77."""
    asyncio.run(evaluate_cache(data, out, plot))


def main() -> None:
    """Runs a command; an error that a user can mend is one sentence."""
    few_arenas()
    end_on_sigterm()
    try:
        cli()
    except TrellisError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


_add_packs()
_add_evaluation("retrieval", evaluate_retrieval, "How well each way to search finds what answers, on Cranfield.")

if __name__ == "__main__":
    main()
