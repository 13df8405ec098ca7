"""Which tools a tenant's agents may use. Nothing is allowed that no row allows."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import TenantTool, ToolMode
from app.cache.known import Known
from app.clock import Clock
from app.governance.audit import Audit
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.db import Database

# How long a tool that was taken away may still run in another process.
MAX_AGE_S: Final = 1.0


class ToolPolicies:
    """The allow lists, read at most once a second for each tenant."""

    def __init__(
        self, db: Database, clock: Clock, audit: Audit, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._clock = clock
        self._audit = audit
        self._known: Known[str, Mapping[str, ToolMode]] = Known(self._read, ttl_s=MAX_AGE_S, timer=monotonic)

    async def modes(self, tenant_id: str) -> Mapping[str, ToolMode]:
        """The tools that the tenant allows, by name."""
        return await self._known.get(tenant_id)

    def warm(self, tenant_id: str) -> None:
        """They will be asked for in a moment."""
        self._known.warm(tenant_id)

    async def set(self, session: AsyncSession, principal: Principal, tool: str, mode: ToolMode | None) -> None:
        """Allows the tool, at once or by approval, or takes it away (None), in the caller's transaction.

        Seen by every process within `MAX_AGE_S` seconds of the commit. Raises Forbidden below the role 'admin'.
        """
        principal.require(Role.ADMIN)
        now = self._clock()
        here = (TenantTool.tenant_id == principal.tenant_id, TenantTool.tool == tool)
        row = (await session.scalars(select(TenantTool).where(*here))).one_or_none()
        if mode is None:
            await session.execute(delete(TenantTool).where(*here))
        elif row is None:
            row = TenantTool(id=new_id("tool"), tenant_id=principal.tenant_id, created_at=now, tool=tool)
            session.add(row)
        if row is not None and mode is not None:
            row.mode, row.updated_at, row.updated_by = mode, now, principal.actor
        await session.flush()
        await self._audit.record(session, principal, "tool.policy", tool, {"mode": mode or "denied"})
        self._known.forget(principal.tenant_id)

    async def _read(self, tenant_id: str) -> Mapping[str, ToolMode]:
        async with self._db.reading(tenant_id) as session:
            query = select(TenantTool.tool, TenantTool.mode).where(TenantTool.tenant_id == tenant_id)
            rows = (await session.execute(query)).all()
        return {tool: ToolMode(mode) for tool, mode in rows}
