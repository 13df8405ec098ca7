"""What the claims assistant's rows hold of a person."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import CursorResult, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.packs.claims.models import Claim, Member, Policy
from app.packs.claims.repository import ClaimRepository, MemberRepository, PolicyRepository


class MembersOfPerson:
    """`PersonStore` of members, their policies and their claims, all of which go.

    An address leads to every member who gave it. A member leads to their address only where it is theirs alone: of a
    family that shares one, one member can be erased and the others stay.
    """

    name = "claims"

    async def aliases(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[Alias]:
        rows = MemberRepository(session, tenant_id)
        found: set[Alias] = set()
        for batch in batches(known.of(Kind.EMAIL)):
            members = await rows.all(func.lower(Member.email).in_(batch))
            found |= {Alias(Kind.USER, member.user_id) for member in members}
        for batch in batches(known.of(Kind.USER)):
            emails = {member.email.lower() for member in await rows.all(Member.user_id.in_(batch))}
            found |= {Alias(Kind.EMAIL, email) for email in await self._sole(session, tenant_id, sorted(emails))}
        return found

    async def _sole(self, session: AsyncSession, tenant_id: str, emails: Sequence[str]) -> list[str]:
        """Those of the addresses that one member alone gave."""
        email = func.lower(Member.email)
        once = (
            select(email)
            .where(Member.tenant_id == tenant_id, email.in_(emails))
            .group_by(email)
            .having(func.count() == 1)
        )
        return list(await session.scalars(once))

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for batch in batches(known.of(Kind.USER)):
            members = await MemberRepository(session, tenant_id).all(Member.user_id.in_(batch))
            policies = await PolicyRepository(session, tenant_id).all(Policy.user_id.in_(batch))
            claims = await ClaimRepository(session, tenant_id).all(Claim.user_id.in_(batch))
            rows += [plain(row) for found in (members, policies, claims) for row in found]
        return rows

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        rows = 0
        for batch in batches(known.of(Kind.USER)):
            for model in (Claim, Policy, Member):
                done = await session.execute(
                    delete(model).where(model.tenant_id == tenant_id, model.user_id.in_(batch))
                )
                assert isinstance(done, CursorResult)
                rows += done.rowcount
        return rows
