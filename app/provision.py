"""Tenants and what the embedded default starts with."""

import asyncio
import os
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import ToolMode
from app.agent.tools import Effect
from app.container import LOCAL_TENANT, Container
from app.governance.keys import create_key, create_tenant
from app.governance.models_keys import Tenant
from app.principal import Principal, Role, Tier

LOCAL_NAME = "This machine"


async def provision_tenant(container: Container, session: AsyncSession, tenant_id: str, name: str) -> None:
    """A tenant that may use every tool of every pack, writes by approval where the settings say so; no plug-in's."""
    await create_tenant(session, tenant_id, name, container.clock())
    admin = Principal(tenant_id, "provisioning", Role.ADMIN)
    mode = ToolMode.APPROVE if container.settings.writes_need_approval else ToolMode.ALLOW
    registry = container.kit.executor.registry
    for tool in sorted(set(registry.names) - set(container.kit.plugins)):
        known = registry.get(tool)
        reads = known is not None and known.effect is Effect.READ
        await container.tool_policies.set(session, admin, tool, ToolMode.ALLOW if reads else mode)


async def load_local(container: Container) -> None:
    """The embedded default's tenant, its key in the data folder, and every pack's sample; once, then no more."""
    key_file = container.settings.local_key_file
    principal = Principal(LOCAL_TENANT, "up", Role.ADMIN, Tier.PRO)
    async with container.db.transaction() as session:
        if await session.get(Tenant, LOCAL_TENANT) is None:
            await provision_tenant(container, session, LOCAL_TENANT, LOCAL_NAME)
    if not await _key_works(container, key_file):
        async with container.db.transaction() as session:
            key = await create_key(session, LOCAL_TENANT, Role.ADMIN, Tier.PRO, "this machine", container.clock())
            await container.audit.record(session, principal, "key.created", key.id, {"role": Role.ADMIN})
            _write_private(key_file, key.secret)
    for runtime in container.runtimes.values():
        if runtime.load_sample is not None:
            await runtime.load_sample(principal)


async def _key_works(container: Container, key_file: Path) -> bool:
    try:
        secret = await asyncio.to_thread(key_file.read_text)
    except OSError:
        return False
    return await container.keys.authenticate(secret.strip()) is not None


def _write_private(path: Path, text: str) -> None:
    """Readable by this user alone, and never half written."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
    part.replace(path)
