"""Versions of a pack's thresholds: proposed by a person or by learning, put in force only by an admin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.clock import Clock
from app.errors import Conflict, InvalidInput, NotFound
from app.governance.audit import Audit
from app.governance.models import Policy, PolicyState
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.repository import TenantRepository


class PolicyRepository(TenantRepository[Policy]):
    model = Policy
    noun = "policy"

    async def active(self, pack: str) -> Policy | None:
        """The version in force; None while the pack runs on its built-in thresholds."""
        return await self.first(Policy.pack == pack, Policy.state == PolicyState.ACTIVE)

    async def version(self, pack: str, version: int) -> Policy:
        """Raises NotFound."""
        policy = await self.first(Policy.pack == pack, Policy.version == version)
        if policy is None:
            raise NotFound(f"The pack '{pack[:40]}' has no policy version {version}.")
        return policy

    async def versions(self, pack: str) -> Sequence[Policy]:
        """Every version, oldest first."""
        query = self.query(Policy.pack == pack).order_by(Policy.version)
        found: Sequence[Policy] = (await self.session.scalars(query)).all()
        return found


class Policies:
    """Proposes and activates; nothing becomes active by itself."""

    def __init__(self, clock: Clock, audit: Audit) -> None:
        self._clock = clock
        self._audit = audit

    async def propose(
        self,
        session: AsyncSession,
        principal: Principal,
        pack: str,
        thresholds: Mapping[str, float],
        evidence: Mapping[str, Any],
    ) -> Policy:
        """Adds the next version as a proposal; `evidence` is what it rests on (sample sizes, figures before and after).

        Raises InvalidInput for thresholds that are not finite numbers, Conflict where another proposal came
        in at the same moment.
        """
        principal.require(Role.AGENT)
        policy = Policy(
            id=new_id("policy"),
            tenant_id=principal.tenant_id,
            created_at=self._clock(),
            pack=pack,
            version=await _newest_version(session, principal.tenant_id, pack) + 1,
            state=PolicyState.PROPOSED,
            thresholds=_checked(thresholds),
            evidence=dict(evidence),
            created_by=principal.actor,
        )
        try:
            async with session.begin_nested():
                session.add(policy)
        except IntegrityError as error:
            raise Conflict("Another proposal came in at the same moment: propose again.") from error
        await self._record(session, principal, "policy.proposed", policy)
        return policy

    async def activate(self, session: AsyncSession, principal: Principal, pack: str, version: int) -> Policy:
        """Puts a version in force and retires the one before; an older version may be activated again (a rollback).

        Activating the active version changes nothing. Raises Forbidden below admin, NotFound, and Conflict
        where another version was activated at the same moment.
        """
        principal.require(Role.ADMIN)
        policies = PolicyRepository(session, principal.tenant_id)
        policy = await policies.version(pack, version)
        if policy.state == PolicyState.ACTIVE:
            return policy
        before = await policies.active(pack)
        try:
            async with session.begin_nested():
                # The old one first: the index allows one active version at any moment.
                await session.execute(_retire(principal.tenant_id, pack))
                policy.state = PolicyState.ACTIVE
                policy.activated_by, policy.activated_at = principal.actor, self._clock()
        except IntegrityError as error:
            raise Conflict("Another version was activated at the same moment: look again.") from error
        await self._record(session, principal, "policy.activated", policy, replaced=before.version if before else None)
        return policy

    async def _record(
        self, session: AsyncSession, principal: Principal, action: str, policy: Policy, **more: Any
    ) -> None:
        data = {"pack": policy.pack, "version": policy.version, **more}
        await self._audit.record(session, principal, action, policy.id, data)


def _retire(tenant_id: str, pack: str) -> Any:
    in_force = (Policy.tenant_id == tenant_id, Policy.pack == pack, Policy.state == PolicyState.ACTIVE)
    return update(Policy).where(*in_force).values(state=PolicyState.RETIRED)


async def _newest_version(session: AsyncSession, tenant_id: str, pack: str) -> int:
    query = select(func.max(Policy.version)).where(Policy.tenant_id == tenant_id, Policy.pack == pack)
    return (await session.scalar(query)) or 0


def _checked(thresholds: Mapping[str, float]) -> dict[str, float]:
    for name, value in thresholds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidInput(f"The threshold '{name[:80]}' must be a finite number.")
    if not thresholds:
        raise InvalidInput("A policy needs at least one threshold.")
    return dict(thresholds)
