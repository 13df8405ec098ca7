"""`trellis`: every command of the app. Errors are one sentence on standard error and a non-zero exit."""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
import uvloop
from rich.console import Console
from rich.table import Table

from app import launch
from app.agent.prompt_lock import write_lock
from app.agent.prompts import read_directory
from app.agent.tools.records import EffectRepository
from app.container import LOCAL_TENANT, PACKS, Container, Parts, migrate_database, open_container
from app.errors import InvalidInput, NotFound, TrellisError
from app.governance.audit import verify
from app.governance.decisions import explain
from app.governance.keys import create_key, list_keys, revoke_key
from app.governance.privacy import scrub
from app.http.effects import settle
from app.main import create_app
from app.pack import Kit
from app.principal import Principal, Role, Tier
from app.provision import load_local, provision_tenant
from app.settings import Settings, load_settings
from app.telemetry.logs import configure_logs

Result = TypeVar("Result")
cli = typer.Typer(no_args_is_help=True, add_completion=False, help="Trellis: an LLM agent service.")
keys = typer.Typer(no_args_is_help=True, help="API keys of a tenant.")
audit = typer.Typer(no_args_is_help=True, help="The audit log.")
effects = typer.Typer(no_args_is_help=True, help="Writes to the outside that need a person's word.")
flags = typer.Typer(no_args_is_help=True, help="Flags and kill switches.")
prompts = typer.Typer(no_args_is_help=True, help="Versioned prompts.")
evals = typer.Typer(no_args_is_help=True, help="Evaluations on data.")
for group, name in (
    (keys, "keys"),
    (audit, "audit"),
    (effects, "effects"),
    (flags, "flags"),
    (prompts, "prompts"),
    (evals, "eval"),
):
    cli.add_typer(group, name=name)

TenantOption = Annotated[str, typer.Option("--tenant", help="The tenant to act for.")]
out = Console()


async def _with_container(
    tenant: str, work: Callable[[Container, Principal], Awaitable[Result]], parts: Parts
) -> Result:
    settings = load_settings()
    launch.prepare_home(settings)
    async with open_container(settings, parts) as container:
        return await work(container, operator(tenant))


def run(tenant: str, work: Callable[[Container, Principal], Awaitable[Result]], parts: Parts = Parts.COMMAND) -> Result:
    """One command's work on an opened container."""
    return asyncio.run(_with_container(tenant, work, parts))


def operator(tenant: str) -> Principal:
    """Whoever may run commands on this machine acts as an admin of the tenant they name."""
    return Principal(tenant_id=tenant, actor=f"cli:{getpass.getuser()}", role=Role.ADMIN, tier=Tier.PRO)


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
    uvloop.run(_serve(settings, sample=sample))


class _Server(uvicorn.Server):
    """Leaves signals to us: the container is closed after the last answer, not skipped by a second signal."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: Settings, *, sample: bool) -> None:
    launch.refuse_taken_port(settings)
    configure_logs(as_json=settings.log_json, level=settings.log_level, scrub=scrub)
    if sample:
        await migrate_database(settings)
    async with open_container(settings) as container:
        if sample:
            await load_local(container)
        server = _Server(
            uvicorn.Config(
                create_app(container),
                host=settings.host,
                port=settings.port,
                access_log=False,
                log_config=None,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
            )
        )
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(container.stopped())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopping.cancel()
        await serving


@cli.command()
def migrate() -> None:
    """Bring the database's schema up to this version."""
    settings = load_settings()
    launch.prepare_home(settings)
    out.print(f"The database has schema {asyncio.run(migrate_database(settings))}.")


@cli.command()
def worker() -> None:
    """Run background jobs only, without the API."""

    async def work(container: Container, _principal: Principal) -> None:
        out.print("The worker runs. Ctrl-C ends it.")
        await container.stopped()

    run(LOCAL_TENANT, work, Parts.WORKER)


@cli.command()
def replay(decision_id: str, tenant: TenantOption = LOCAL_TENANT) -> None:
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
def explain_decision(decision_id: str, tenant: TenantOption = LOCAL_TENANT) -> None:
    """Print why a decision came out as it did, as JSON."""

    async def work(container: Container, principal: Principal) -> str:
        return explain(await container.decision(principal, decision_id)).model_dump_json(indent=2)

    out.print_json(run(tenant, work))


@keys.command("create")
def keys_create(
    label: Annotated[str, typer.Option(help="What the key is for.")],
    role: Annotated[Role, typer.Option()] = Role.AGENT,
    tier: Annotated[Tier, typer.Option()] = Tier.STANDARD,
    tenant: TenantOption = LOCAL_TENANT,
    new_tenant: Annotated[str | None, typer.Option(help="Make the tenant first, with this name.")] = None,
) -> None:
    """Make an API key. It is printed once and stored as a hash."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction() as session:
            if new_tenant is not None:
                await provision_tenant(container, session, tenant, new_tenant)
            key = await create_key(session, tenant, role, tier, label, container.clock())
            await container.audit.record(session, principal, "key.created", key.id, {"role": role, "tier": tier})
        out.print(f"{key.id}\n{key.secret}\nThis is the only time that the key is shown.", highlight=False)

    run(tenant, work)


@keys.command("list")
def keys_list(tenant: TenantOption = LOCAL_TENANT) -> None:
    """List a tenant's keys."""

    async def work(container: Container, _principal: Principal) -> Table:
        table = Table("Id", "Label", "Role", "Tier", "Begins", "Made", "Revoked")
        async with container.db.reading() as session:
            for key in await list_keys(session, tenant):
                revoked = f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
                made = f"{key.created_at:%Y-%m-%d %H:%M}"
                table.add_row(key.id, key.label, key.role, key.tier, f"{key.hint}...", made, revoked)
        return table

    out.print(run(tenant, work))


@keys.command("revoke")
def keys_revoke(key_id: str, tenant: TenantOption = LOCAL_TENANT) -> None:
    """End a key; running processes forget it within 5 seconds."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction() as session:
            await revoke_key(session, tenant, key_id, container.clock())
            await container.audit.record(session, principal, "key.revoked", key_id, {})
        out.print(f"{key_id} is revoked.")

    run(tenant, work)


@audit.command("verify")
def audit_verify(
    tenant: Annotated[str | None, typer.Option("--tenant", help="One tenant; all where not given.")] = None,
) -> None:
    """Recompute the hash chain of the audit log; exit 1 where it is broken."""

    async def work(container: Container, _principal: Principal) -> bool:
        async with container.db.reading() as session:
            report = await verify(session, tenant)
        for broken in report.broken:
            out.print(f"Tenant {broken.tenant_id}: broken at entry {broken.seq}: {broken.why}")
        out.print(f"{report.entries} entries, {'the chain holds' if report.ok else 'THE CHAIN IS BROKEN'}.")
        return report.ok

    if not run(tenant or LOCAL_TENANT, work):
        raise typer.Exit(1)


@effects.command("list")
def effects_list(tenant: TenantOption = LOCAL_TENANT) -> None:
    """List parked writes: those that may or may not have happened."""

    async def work(container: Container, principal: Principal) -> Table:
        table = Table("Id", "Tool", "Decision", "Since", "Why")
        async with container.db.reading() as session:
            parked = EffectRepository(session, principal.tenant_id)
            for row in await parked.parked(limit=200):
                table.add_row(row.id, row.tool, row.subject_id, f"{row.created_at:%Y-%m-%d %H:%M}", row.error)
        return table

    out.print(run(tenant, work))


@effects.command("settle")
def effects_settle(
    effect_id: str,
    happened: Annotated[bool, typer.Option("--happened/--not-happened", help="What you found at the vendor.")],
    tenant: TenantOption = LOCAL_TENANT,
) -> None:
    """Say whether a parked write happened; its decision then goes on."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction() as session:
            found = await settle(container, session, principal, effect_id, happened=happened)
        out.print(f"{found.tool} is {found.state}; decision {found.subject_id} goes on.")

    run(tenant, work)


@flags.command("list")
def flags_list(tenant: TenantOption = LOCAL_TENANT) -> None:
    """List flags with their value for a tenant."""

    async def work(container: Container, _principal: Principal) -> Table:
        table = Table("Flag", "Value", "Default", "What it does")
        for name, spec in sorted(container.flags.specs.items()):
            table.add_row(name, str(container.flags.value(name, tenant)), str(spec.default), spec.description)
        return table

    out.print(run(tenant, work))


@flags.command("set")
def flags_set(
    name: str,
    value: str,
    tenant: TenantOption = LOCAL_TENANT,
    everywhere: Annotated[
        bool, typer.Option("--all-tenants", help="For every tenant without a value of its own.")
    ] = False,
) -> None:
    """Set a flag, or a kill switch: `trellis flags set kill.leads true`. Seen everywhere within a second."""

    async def work(container: Container, principal: Principal) -> None:
        who = operator("*") if everywhere else principal
        spec = container.flags.specs.get(name)
        if spec is None:
            raise NotFound(f"There is no flag '{name}': `trellis flags list` shows them.")
        async with container.db.transaction() as session:
            await container.flags.set(session, who, name, parsed(value, spec.default))
        out.print(f"{name} is {value} for {'every tenant' if everywhere else tenant}.")

    run(tenant, work)


@prompts.command("list")
def prompts_list() -> None:
    """List every version of every prompt."""
    table = Table("Prompt", "Version", "Status", "Notes")
    for pack in PACKS:
        for prompt in read_directory(pack.prompts) if pack.prompts else ():
            table.add_row(prompt.name, str(prompt.version), prompt.status, prompt.notes)
    out.print(table)


@prompts.command("lock")
def prompts_lock() -> None:
    """Add new prompt versions to the lock files; refuses where a version that ran was changed."""
    for pack in PACKS:
        if pack.prompts is not None:
            digests = {(prompt.name, prompt.version): prompt.digest for prompt in read_directory(pack.prompts)}
            for name, number in write_lock(pack.prompts, digests):
                out.print(f"Locked version {number} of '{name}'.")


def parsed(text: str, example: bool | str | float) -> bool | str | float:
    """A flag's value as the type of its default. Raises InvalidInput."""
    if isinstance(example, bool):
        if text.lower() not in ("true", "false"):
            raise InvalidInput(f"'{text}' is neither true nor false.")
        return text.lower() == "true"
    if isinstance(example, str):
        return text
    try:
        return float(text)
    except ValueError:
        raise InvalidInput(f"'{text}' is not a number.") from None


def _add_packs() -> None:
    """Each pack's commands as `trellis <pack>`, its evaluation as `trellis eval <pack>`."""
    for pack in PACKS:
        if pack.commands is not None:
            cli.add_typer(pack.commands(_run_kit), name=pack.name)
        if pack.learn is not None:
            pack.learn(cli, _run_kit)
        if pack.evaluate is not None:
            _add_evaluation(pack.name, pack.evaluate)


def _run_kit(work: Callable[[Kit, Principal], Awaitable[Result]], tenant: str) -> Result:
    async def on_container(container: Container, principal: Principal) -> Result:
        return await work(container.kit, principal)

    return run(tenant, on_container)


def _add_evaluation(name: str, evaluate: Callable[[Path, Console], Coroutine[Any, Any, None]]) -> None:
    def command(
        data: Annotated[Path, typer.Option(help="The folder with the data sets.", envvar="TRELLIS_DATA")] = Path(
            "../shared/data"
        ),
    ) -> None:
        asyncio.run(evaluate(data, out))

    evals.command(name, help=f"What the {name} pack is worth on the data sets of a folder.")(command)


def main() -> None:
    """Runs a command; an error that a user can mend is one sentence."""
    try:
        cli()
    except TrellisError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


_add_packs()

if __name__ == "__main__":
    main()
