"""Puts members, policies and claims in or brings them up to date; the same import again changes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.clock import Clock
from app.errors import InvalidInput
from app.governance.audit import Audit
from app.ids import new_id
from app.packs.claims.models import Claim, Member, Policy
from app.packs.claims.repository import ClaimRepository, MemberRepository, PolicyRepository
from app.packs.claims.schemas import ClaimIn, ImportReport, MemberIn, PolicyIn
from app.principal import Principal, Role
from app.storage.repository import TenantRepository

PACK = "claims"
_LOOKED_UP = 500

Known = TypeVar("Known", Member, Policy, Claim)


class Importer:
    """Imports for any tenant. Holds nothing of one."""

    def __init__(self, clock: Clock, audit: Audit) -> None:
        self._clock = clock
        self._audit = audit

    async def put(
        self, session: AsyncSession, principal: Principal, members: Sequence[MemberIn]
    ) -> tuple[ImportReport, frozenset[str]]:
        """What became of the rows, and the users of whom anything is new or changed.

        Raises Forbidden below the role 'admin', InvalidInput for a number that is given twice or is another member's.
        """
        principal.require(Role.ADMIN)
        _refuse_twice("member", (member.user_id for member in members))
        _refuse_twice("policy", (policy.number for member in members for policy in member.policies))
        _refuse_twice("claim", (claim.number for member in members for claim in member.claims))
        work = _Import(session, principal.tenant_id, self._clock)
        await work.look_up(members)
        for member in members:
            work.put(member)
        await session.flush()
        for member in members:
            work.put_claims(member)
        counts = work.report.model_dump()
        await self._audit.record(session, principal, "claims.imported", PACK, counts)
        return work.report, frozenset(work.touched)


class _Import:
    """One import under way: what was there, and what became of it."""

    def __init__(self, session: AsyncSession, tenant_id: str, clock: Clock) -> None:
        self._member_rows = MemberRepository(session, tenant_id)
        self._policy_rows = PolicyRepository(session, tenant_id)
        self._claim_rows = ClaimRepository(session, tenant_id)
        self._now = clock()
        self._members: dict[str, Member] = {}
        self._policies: dict[str, Policy] = {}
        self._claims: dict[str, Claim] = {}
        self.report = ImportReport()
        self.touched: set[str] = set()

    async def look_up(self, members: Sequence[MemberIn]) -> None:
        users = [member.user_id for member in members]
        policies = {policy.number for member in members for policy in member.policies}
        policies |= {claim.policy for member in members for claim in member.claims}
        claims = [claim.number for member in members for claim in member.claims]
        self._members = await _known(self._member_rows, Member.user_id, users)
        self._policies = await _known(self._policy_rows, Policy.number, sorted(policies))
        self._claims = await _known(self._claim_rows, Claim.number, claims)

    def put(self, given: MemberIn) -> None:
        """The member and their policies."""
        before = self._members.get(given.user_id)
        row = before or self._member_rows.add(Member(id=new_id("member"), created_at=self._now, user_id=given.user_id))
        changed = _set(row, given.model_dump(include={"name", "email"}))
        self._counted(given.user_id, self.report.members.count, before is not None, changed)
        for policy in given.policies:
            self._put_policy(given.user_id, policy)

    def put_claims(self, given: MemberIn) -> None:
        for claim in given.claims:
            self._put_claim(given.user_id, claim)

    def _put_policy(self, user_id: str, given: PolicyIn) -> None:
        before = self._policies.get(given.number)
        _refuse_other(before, user_id, "policy", given.number)
        row = before or self._policy_rows.add(Policy(id=new_id("policy"), created_at=self._now, user_id=user_id))
        self._policies[given.number] = row
        self._counted(user_id, self.report.policies.count, before is not None, _set(row, given.model_dump()))

    def _put_claim(self, user_id: str, given: ClaimIn) -> None:
        policy = self._policies.get(given.policy)
        if policy is None:
            raise InvalidInput(
                f"The claim {given.number} names the policy {given.policy}, which is not there: send it."
            )
        _refuse_other(policy, user_id, "policy", given.policy)
        before = self._claims.get(given.number)
        _refuse_other(before, user_id, "claim", given.number)
        row = before or self._claim_rows.add(Claim(id=new_id("claim"), created_at=self._now, user_id=user_id))
        changed = _set(row, {**given.model_dump(exclude={"policy"}), "policy_id": policy.id})
        if changed:
            row.updated_at = self._now
        self._counted(user_id, self.report.claims.count, before is not None, changed)

    def _counted(self, user_id: str, count: Any, before: bool, changed: bool) -> None:
        count(before, changed)
        if changed:
            self.touched.add(user_id)


async def _known(
    rows: TenantRepository[Known], column: InstrumentedAttribute[str], wanted: Sequence[str]
) -> dict[str, Known]:
    found: dict[str, Known] = {}
    for start in range(0, len(wanted), _LOOKED_UP):
        batch = await rows.all(column.in_(wanted[start : start + _LOOKED_UP]))
        found.update({getattr(row, column.key): row for row in batch})
    return found


def _set(row: Member | Policy | Claim, fields: Mapping[str, Any]) -> bool:
    """Whether any field had another value; a new row has none."""
    changed = {name: value for name, value in fields.items() if getattr(row, name) != value}
    for name, value in changed.items():
        setattr(row, name, value)
    return bool(changed)


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"The {what} {name} is in the import twice: send it once.")
        seen.add(name)


def _refuse_other(row: Policy | Claim | None, user_id: str, what: str, number: str) -> None:
    if row is not None and row.user_id != user_id:
        raise InvalidInput(f"The {what} {number} belongs to another member: numbers do not move between members.")
