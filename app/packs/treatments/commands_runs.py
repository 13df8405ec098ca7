"""The commands about runs: start, watch, steer, look at, take out."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.pack import CommandRunner, Kit
from app.packs.treatments.export import ResultFiles, blocks
from app.packs.treatments.lanes import Lanes
from app.packs.treatments.reading import sentence_of
from app.packs.treatments.run_file import CSV, JSON_LINES, external_ids
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.run_view import one_run, runs_table, watch
from app.packs.treatments.runs import RunService
from app.packs.treatments.schemas_runs import ResumeIn, RunIn, RunOptions, RunOut
from app.packs.treatments.schemas_story import StoryOut
from app.packs.treatments.story import Stories
from app.packs.treatments.story_view import story_told
from app.plain_console import PlainConsole
from app.principal import Principal

LOCAL: Final = "local"
TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant to act for.")]
Segment = Annotated[str | None, typer.Option("--segment", help="Only customers of this segment.")]
ListFile = Annotated[Path | None, typer.Option("--file", help="Only these: CSV or JSON Lines with external_id.")]
WindowOption = Annotated[str, typer.Option("--window", help="HH:MM-HH:MM in UTC: work only then.")]
Priority = Annotated[int, typer.Option("--priority", min=0, max=9, help="The highest goes first.")]
MaxCost = Annotated[float | None, typer.Option("--max-cost", min=0.01, max=1_000_000, help="USD; it pauses there.")]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed holds the same customers back.")]
AsOf = Annotated[datetime | None, typer.Option("--as-of", help="UTC; histories end there. Now where not given.")]
Allocate = Annotated[bool, typer.Option("--allocate/--propose-only", help="Whether to allocate in the end.")]
Wait = Annotated[bool, typer.Option("--wait", help="Watch it to its end.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN")]
Step = Callable[[RunService, AsyncSession, Principal, str], Awaitable[RunOut]]
_FILES: Final = {".csv": CSV, ".jsonl": JSON_LINES[0], ".ndjson": JSON_LINES[0]}


def add_runs(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    """The commands, on the group that the caller made."""
    _add_run(commands, run, out)
    _add_looking(commands, run, out)
    _add_steering(commands, run, out)
    _add_taking_out(commands, run, out)


def _add_run(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    @commands.command("run")
    def start_run(
        segment: Segment = None,
        file: ListFile = None,
        window: WindowOption = "",
        priority: Priority = 0,
        max_cost: MaxCost = None,
        seed: Seed = None,
        as_of: AsOf = None,
        allocate: Allocate = True,
        wait: Wait = False,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Start a run over all customers, a segment, or those of a file. A running server or worker carries it out."""
        if segment is not None and file is not None:
            raise InvalidInput("Give --segment or --file, not both.")
        try:
            options = RunOptions(
                window=window,
                priority=priority,
                max_cost_usd=max_cost,
                seed=seed,
                allocate=allocate,
                as_of=None if as_of is None else as_of.replace(tzinfo=UTC),
            )
        except ValidationError as error:
            raise InvalidInput(f"The run cannot be started: {sentence_of(error)}.") from None

        async def work(kit: Kit, principal: Principal) -> RunOut:
            return await _started(kit, principal, options, segment, file)

        made = run(work, tenant)
        queued = f"The run {made.id} is queued."
        if wait:
            _watched(run, out, made.id, tenant, queued)
        else:
            out.print(queued)

    @commands.command("watch")
    def watch_run(run_id: RunArgument, tenant: TenantOption = LOCAL) -> None:
        """Watch a run to its end."""
        _watched(run, out, run_id, tenant)


async def _started(
    kit: Kit, principal: Principal, options: RunOptions, segment: str | None, file: Path | None
) -> RunOut:
    service, db = RunService(kit, Lanes(kit)), kit.ports.db
    if file is None:
        scope = {"all": True} if segment is None else {"segment": segment}
        async with db.transaction(principal.tenant_id) as session:
            return await service.create(session, principal, RunIn(**options.model_dump(), **scope))
    kind = _FILES.get(file.suffix.lower())
    if kind is None:
        raise InvalidInput(f"{file} is of no kind that is read: give {', '.join(sorted(_FILES))}.")
    try:
        opened = await asyncio.to_thread(file.open, "rb")
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}).") from None
    with opened:
        async with db.transaction(principal.tenant_id) as session:
            return await service.create_of(session, principal, options, external_ids(kind, opened))


def _watched(run: CommandRunner, out: PlainConsole, run_id: str, tenant: str, first: str = "") -> None:
    """Raises typer.Exit with 1 where the run did not come to its end."""

    async def work(kit: Kit, principal: Principal) -> RunOut:
        async def look() -> RunOut:
            async with kit.ports.db.reading(principal.tenant_id) as session:
                return await RunService(kit, Lanes(kit)).get(session, principal, run_id)

        return await watch(look, out)

    try:
        if first:
            out.print(first)
        ended = run(work, tenant)
    except KeyboardInterrupt:
        out.print(f"The run goes on. Look at it: trellis treatments show {run_id}; end it: trellis treatments cancel "
                  f"{run_id}.")  # fmt: skip
        raise typer.Exit(130) from None
    out.print(one_run(ended))
    if ended.state != "done":
        raise typer.Exit(1)


def _add_looking(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    @commands.command("runs")
    def list_runs(tenant: TenantOption = LOCAL) -> None:
        """List the newest runs."""

        async def work(kit: Kit, principal: Principal) -> list[RunOut]:
            async with kit.ports.db.reading(principal.tenant_id) as session:
                return (await RunService(kit, Lanes(kit)).page(session, principal, None, None, 50)).items

        out.print(runs_table(run(work, tenant)))

    @commands.command("show")
    def show_run(run_id: RunArgument, tenant: TenantOption = LOCAL) -> None:
        """Show how a run stands."""

        async def work(kit: Kit, principal: Principal) -> RunOut:
            async with kit.ports.db.reading(principal.tenant_id) as session:
                return await RunService(kit, Lanes(kit)).get(session, principal, run_id)

        out.print(one_run(run(work, tenant)))

    @commands.command("audit")
    def audit(
        customer: Annotated[str, typer.Argument(help="Your own id of the customer, or ours.")],
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Tell all that was decided about a customer: what was seen, proposed, allocated, and what came of it."""

        async def work(kit: Kit, principal: Principal) -> StoryOut:
            return await Stories(kit).of(principal, customer)

        story = run(work, tenant)
        if as_json:
            out.print_json(story.model_dump_json())
        else:
            out.print(story_told(story))


def _add_steering(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    def steer(run_id: str, tenant: str, step: Step) -> None:
        async def work(kit: Kit, principal: Principal) -> RunOut:
            async with kit.ports.db.transaction(principal.tenant_id) as session:
                return await step(RunService(kit, Lanes(kit)), session, principal, run_id)

        out.print(one_run(run(work, tenant)))

    @commands.command("pause")
    def pause_run(run_id: RunArgument, tenant: TenantOption = LOCAL) -> None:
        """Take up nothing more; what is under way is finished and kept."""
        steer(run_id, tenant, RunService.pause)

    @commands.command("cancel")
    def cancel_run(run_id: RunArgument, tenant: TenantOption = LOCAL) -> None:
        """End a run; what was decided stays."""
        steer(run_id, tenant, RunService.cancel)

    @commands.command("resume")
    def resume_run(
        run_id: RunArgument,
        max_cost: MaxCost = None,
        window: Annotated[str | None, typer.Option("--window", help="Another window; '' to work always.")] = None,
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Let a paused, cancelled or failed run go on: nobody is decided twice."""
        try:
            changes = ResumeIn(max_cost_usd=max_cost, window=window)
        except ValidationError as error:
            raise InvalidInput(f"The run cannot go on: {sentence_of(error)}.") from None

        async def step(service: RunService, session: AsyncSession, principal: Principal, run_id: str) -> RunOut:
            return await service.resume(session, principal, run_id, changes)

        steer(run_id, tenant, step)


def _add_taking_out(commands: typer.Typer, run: CommandRunner, out: PlainConsole) -> None:
    @commands.command("export")
    def export_results(
        run_id: RunArgument,
        to: Annotated[Path, typer.Option("--to", help="A .csv or .parquet file.")],
        tenant: TenantOption = LOCAL,
    ) -> None:
        """Write a run's results to a file."""
        if to.suffix.lower() not in (".csv", ".parquet"):
            raise InvalidInput(f"{to} would be of no kind that is written: give a .csv or a .parquet file.")

        async def work(kit: Kit, principal: Principal) -> int:
            async with kit.ports.db.reading(principal.tenant_id) as session:
                await RunRepository(session, principal.tenant_id).get(run_id)
            files = ResultFiles(kit.ports.db, principal.tenant_id, run_id)
            pieces = files.csv() if to.suffix.lower() == ".csv" else blocks(await files.parquet())
            try:
                with to.open("wb") as file:
                    async for piece in pieces:
                        await asyncio.to_thread(file.write, piece)
            except OSError as error:
                raise InvalidInput(f"{to} cannot be written ({error.strerror}).") from None
            return files.rows

        out.print(f"{run(work, tenant)} results are in {to}.")
