"""The commands of whoever runs this installation: keys, tools, flags, parked writes, the audit log, prompts."""

from typing import Annotated

import typer
from rich.table import Table

from app.administration.knowledge import knowledge
from app.administration.mcp import mcp
from app.administration.people import people
from app.administration.teams import teams
from app.agent.models import ToolMode
from app.agent.prompt_lock import write_lock
from app.agent.prompts import read_directory
from app.agent.tools.records import EffectRepository
from app.console import LOCAL, TenantOption, operator, out, run, with_ids
from app.container import Container, prompt_directories
from app.errors import InvalidInput, NotFound
from app.governance.audit import verify
from app.governance.flags import parsed
from app.governance.keys import create_key, list_keys, require_tenant, revoke_key
from app.http.effects import settle
from app.principal import Principal, Role, Tier
from app.provision import provision_tenant

keys = typer.Typer(no_args_is_help=True, help="API keys of a tenant.")
tools = typer.Typer(no_args_is_help=True, help="What a tenant's agents may do.")
audit = typer.Typer(no_args_is_help=True, help="The audit log.")
effects = typer.Typer(no_args_is_help=True, help="Writes to the outside that need a person's word.")
flags = typer.Typer(no_args_is_help=True, help="Flags and kill switches.")
prompts = typer.Typer(no_args_is_help=True, help="Versioned prompts.")
GROUPS = {
    "keys": keys,
    "tools": tools,
    "audit": audit,
    "effects": effects,
    "flags": flags,
    "prompts": prompts,
    "knowledge": knowledge,
    "people": people,
    "mcp": mcp,
    "teams": teams,
}


@keys.command("create")
def keys_create(
    label: Annotated[str, typer.Option(help="What the key is for.")],
    role: Annotated[Role, typer.Option()] = Role.AGENT,
    tier: Annotated[Tier, typer.Option()] = Tier.STANDARD,
    tenant: TenantOption = LOCAL,
    new_tenant: Annotated[str | None, typer.Option(help="Make the tenant first, with this name.")] = None,
) -> None:
    """Make an API key. It is printed once and stored as a hash."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction(principal.tenant_id) as session:
            if new_tenant is not None:
                await provision_tenant(container, session, tenant, new_tenant)
            key = await create_key(session, tenant, role, tier, label, container.clock())
            await container.audit.record(session, principal, "key.created", key.id, {"role": role, "tier": tier})
        out.print(f"{key.id}\n{key.secret}\nThis is the only time that the key is shown.", highlight=False)

    run(tenant, work)


@keys.command("list")
def keys_list(tenant: TenantOption = LOCAL) -> None:
    """List a tenant's keys."""

    async def work(container: Container, _principal: Principal) -> Table:
        table = with_ids("Label", "Role", "Tier", "Begins", "Made", "Revoked")
        async with container.db.reading(_principal.tenant_id) as session:
            for key in await list_keys(session, tenant):
                revoked = f"{key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
                made = f"{key.created_at:%Y-%m-%d %H:%M}"
                table.add_row(key.id, key.label, key.role, key.tier, f"{key.hint}...", made, revoked)
        return table

    out.print(run(tenant, work))


@keys.command("revoke")
def keys_revoke(key_id: str, tenant: TenantOption = LOCAL) -> None:
    """End a key; running processes forget it within 5 seconds."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction(principal.tenant_id) as session:
            await revoke_key(session, tenant, key_id, container.clock())
            await container.audit.record(session, principal, "key.revoked", key_id, {})
        out.print(f"{key_id} is revoked.")

    run(tenant, work)


@tools.command("list")
def tools_list(tenant: TenantOption = LOCAL) -> None:
    """List every tool and whether the tenant's agents may use it. What is not allowed is refused."""

    async def work(container: Container, principal: Principal) -> Table:
        modes = await container.tool_policies.modes(principal.tenant_id)
        table = Table("Tool", "Effect", "Mode", "What it does")
        for name in container.kit.executor.registry.names:
            tool = container.kit.executor.registry.get(name)
            if tool is not None:
                table.add_row(name, tool.effect, modes.get(name, "refused"), tool.description)
        return table

    out.print(run(tenant, work))


@tools.command("set")
def tools_set(
    tool: str,
    mode: Annotated[str, typer.Argument(help="allow, approve (a person lets each call run) or refuse")],
    tenant: TenantOption = LOCAL,
) -> None:
    """Allow a tool, ask for approval of each call, or refuse it. Seen everywhere within a second."""
    if mode not in (*ToolMode, "refuse"):
        raise InvalidInput(f"'{mode}' is not a mode: use allow, approve or refuse.")

    async def work(container: Container, principal: Principal) -> None:
        if container.kit.executor.registry.get(tool) is None:
            raise NotFound(f"There is no tool '{tool}': `trellis tools list` shows them.")
        async with container.db.transaction(principal.tenant_id) as session:
            await require_tenant(session, tenant)
            wanted = None if mode == "refuse" else ToolMode(mode)
            await container.tool_policies.set(session, principal, tool, wanted)
        out.print(f"{tool}: {mode} for {tenant}.")

    run(tenant, work)


@audit.command("verify")
def audit_verify(
    tenant: Annotated[str | None, typer.Option("--tenant", help="One tenant; all where not given.")] = None,
) -> None:
    """Recompute the hash chain of the audit log; exit 1 where it is broken."""

    async def work(container: Container, _principal: Principal) -> bool:
        async with container.db.reading(_principal.tenant_id) as session:
            report = await verify(session, tenant)
        for broken in report.broken:
            out.print(f"Tenant {broken.tenant_id}: broken at entry {broken.seq}: {broken.why}")
        out.print(f"{report.entries} entries, {'the chain holds' if report.ok else 'THE CHAIN IS BROKEN'}.")
        return report.ok

    if not run(tenant or LOCAL, work):
        raise typer.Exit(1)


@effects.command("list")
def effects_list(tenant: TenantOption = LOCAL) -> None:
    """List parked writes: those that may or may not have happened."""

    async def work(container: Container, principal: Principal) -> Table:
        table = with_ids("Tool", "Decision", "Since", "Why")
        async with container.db.reading(principal.tenant_id) as session:
            parked = EffectRepository(session, principal.tenant_id)
            for row in await parked.parked(limit=200):
                table.add_row(row.id, row.tool, row.subject_id, f"{row.created_at:%Y-%m-%d %H:%M}", row.error)
        return table

    out.print(run(tenant, work))


@effects.command("settle")
def effects_settle(
    effect_id: str,
    happened: Annotated[bool, typer.Option("--happened/--not-happened", help="What you found at the vendor.")],
    tenant: TenantOption = LOCAL,
) -> None:
    """Say whether a parked write happened; its decision then goes on."""

    async def work(container: Container, principal: Principal) -> None:
        async with container.db.transaction(principal.tenant_id) as session:
            found = await settle(container, session, principal, effect_id, happened=happened)
        out.print(f"{found.tool} is {found.state}; decision {found.subject_id} goes on.")

    run(tenant, work)


@flags.command("list")
def flags_list(tenant: TenantOption = LOCAL) -> None:
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
    tenant: TenantOption = LOCAL,
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
        async with container.db.transaction(principal.tenant_id) as session:
            if not everywhere:
                await require_tenant(session, tenant)
            await container.flags.set(session, who, name, parsed(value, spec))
        out.print(f"{name} is {value} for {'every tenant' if everywhere else tenant}.")

    run(tenant, work)


@prompts.command("list")
def prompts_list() -> None:
    """List every version of every prompt."""
    table = Table("Prompt", "Version", "Status", "Where", "Notes")
    for directory in prompt_directories():
        for prompt in read_directory(directory):
            table.add_row(prompt.name, str(prompt.version), prompt.status, str(prompt.scope), prompt.notes)
    out.print(table)


@prompts.command("lock")
def prompts_lock() -> None:
    """Add new prompt versions to the lock files; refuses where a version that ran was changed."""
    for directory in prompt_directories():
        digests = {(prompt.name, prompt.version): prompt.digest for prompt in read_directory(directory)}
        for name, number in write_lock(directory, digests):
            out.print(f"Locked version {number} of '{name}'.")
