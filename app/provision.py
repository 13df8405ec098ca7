"""Tenants and what the embedded default starts with."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import ToolMode
from app.agent.tools import Effect
from app.container import LOCAL_TENANT, Container
from app.errors import Unavailable
from app.governance.keys import create_key, create_tenant
from app.governance.models_keys import Tenant
from app.principal import Principal, Role, Tier

LOCAL_NAME = "This machine"

log = structlog.get_logger(__name__)


class Loading:
    """Samples being loaded one after the other, on the event loop that serves."""

    def __init__(self, loads: Sequence[Callable[[], Awaitable[int]]]) -> None:
        self._task = asyncio.create_task(self._load(loads), name="samples")

    async def check(self) -> None:
        """Raises Unavailable while samples are missing, and what went wrong with one."""
        if not self._task.done():
            raise Unavailable("The sample is being loaded.", retry_after=1)
        self._task.result()

    async def stop(self) -> None:
        """What is not loaded then is loaded by the next start."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _load(self, loads: Sequence[Callable[[], Awaitable[int]]]) -> None:
        for load in loads:
            try:
                await load()
            except Exception:
                log.exception("a sample cannot be loaded")
                raise


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


async def load_local(container: Container) -> Loading:
    """The embedded default's tenant, its key in the data folder, and the first pack's sample; once, then no more.

    The samples of the other packs are loaded from now on, beside what is served; the process is ready with the last.
    """
    key_file = container.settings.local_key_file
    principal = Principal(LOCAL_TENANT, "up", Role.ADMIN, Tier.PRO)
    async with container.db.transaction(LOCAL_TENANT) as session:
        if await session.get(Tenant, LOCAL_TENANT) is None:
            await provision_tenant(container, session, LOCAL_TENANT, LOCAL_NAME)
    if not await _key_works(container, key_file):
        async with container.db.transaction(LOCAL_TENANT) as session:
            key = await create_key(session, LOCAL_TENANT, Role.ADMIN, Tier.PRO, "this machine", container.clock())
            await container.audit.record(session, principal, "key.created", key.id, {"role": Role.ADMIN})
            _write_private(key_file, key.secret)
    first, *others = [runtime.load_sample for runtime in container.runtimes.values() if runtime.load_sample is not None]
    await first(principal)
    loading = Loading([partial(load, principal) for load in others])
    container.readiness.add("sample", loading.check)
    return loading


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
