"""`trellis treatments`: data in, runs, and what was decided.

Commands work on the database itself, beside a running server or without one: a run is carried out by whichever worker
there is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.progress import track

from app.errors import InvalidInput
from app.pack import CommandRunner, Kit
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.commands_runs import add_runs
from app.packs.treatments.customers import CustomerService
from app.packs.treatments.data_files import Part, parts_of
from app.packs.treatments.demo import add_demo
from app.packs.treatments.outcomes import Outcomes
from app.packs.treatments.reading import EVENT, OWN, read_customers, read_outcomes, sentence_of
from app.packs.treatments.schemas import CatalogueOut, OutcomeIn
from app.packs.treatments.versions import Catalogues
from app.plain_console import PlainConsole
from app.principal import Principal

TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant to act for.")]
LOCAL: Final = "local"
CUSTOMERS_HELP: Final = (
    "Customers with their events: CSV, JSON Lines or JSON. "
    f"In a CSV a line is an event of a customer. Columns: {', '.join((*OWN, *EVENT))}; others are attributes. "
    "external_id and worth_usd are needed."
)
OUTCOMES_HELP: Final = (
    "What came of treatments: CSV, JSON Lines or JSON. "
    f"Columns: {', '.join(OutcomeIn.model_fields)}. A run's evaluation counts those with its run_id."
)
Taken = tuple[int, int]
"""How many are new, and how many were there before."""


def build_commands(run: CommandRunner) -> typer.Typer:
    commands = typer.Typer(no_args_is_help=True, help="Treatments: who gets what, under limited capacity.")
    out = PlainConsole()
    _add_data(commands, run, out)
    _add_catalogue(commands, run, out)
    add_runs(commands, run, out)
    add_demo(commands, out)
    return commands


def _add_data(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    @commands.command("import")
    def import_customers(
        file: Annotated[Path, typer.Argument(help=CUSTOMERS_HELP)],
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Put customers in, or bring them up to date. Run again after an interruption: nothing is there twice."""

        def put(kit: Kit, principal: Principal) -> Callable[[Part], Awaitable[Taken]]:
            service = CustomerService(kit)

            async def one(part: Part) -> Taken:
                done = await service.put(principal, await asyncio.to_thread(read_customers, *part))
                return done.new + done.changed, done.unchanged

            return one

        new, known = _taken(run, tenant, file, put, out)
        out.print(f"{new} customers new or changed, {known} unchanged.")

    @commands.command("outcomes")
    def record_outcomes(
        file: Annotated[Path, typer.Argument(help=OUTCOMES_HELP)],
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Record what came of treatments, or of none. An outcome whose key is known counts once."""

        def put(kit: Kit, principal: Principal) -> Callable[[Part], Awaitable[Taken]]:
            outcomes = Outcomes(kit.ports.clock, kit.audit)

            async def one(part: Part) -> Taken:
                given = await asyncio.to_thread(read_outcomes, *part)
                async with kit.ports.db.transaction(principal.tenant_id) as session:
                    done = await outcomes.record(session, principal, given)
                return done.new, done.known

            return one

        new, known = _taken(run, tenant, file, put, out)
        out.print(f"{new} outcomes new, {known} known already.")


def _taken(
    run: CommandRunner,
    tenant: str,
    file: Path,
    put: Callable[[Kit, Principal], Callable[[Part], Awaitable[Taken]]],
    out: PlainConsole,
) -> Taken:
    """The file, part by part, each in a transaction of its own."""

    async def work(kit: Kit, principal: Principal) -> Taken:
        one, new, known = put(kit, principal), 0, 0
        for part in track(parts_of(file), "Importing", console=out, transient=True):
            here = await one(part)
            new, known = new + here[0], known + here[1]
        return new, known

    return run(work, tenant)


def _add_catalogue(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    @commands.command("catalogue")
    def put_catalogue(
        file: Annotated[Path, typer.Argument(help="The catalogue as JSON, as PUT /v1/treatments/catalogue takes it.")],
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Say what may be done, within which limits: a new version, where anything differs from the one in force."""
        given = _catalogue(file)

        async def work(kit: Kit, principal: Principal) -> CatalogueOut:
            return await Catalogues(kit).put(principal, given)

        made = run(work, tenant)
        said = "is in force now" if made.changed else "says the same and stays in force"
        out.print(f"Version {made.version} {said}: {', '.join(one.name for one in made.catalogue.treatments)}.")


def _catalogue(file: Path) -> CatalogueIn:
    """Raises InvalidInput naming what is wrong."""
    try:
        return CatalogueIn.model_validate_json(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        raise InvalidInput(f"{file} is no catalogue: {sentence_of(error)}.") from None
