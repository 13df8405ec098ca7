"""Rows of the claims assistant: a tenant's, for the import; and one user's own, for everything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Forbidden, NotFound
from app.packs.claims.models import OPEN, Claim, ClaimState, Member, Policy
from app.principal import Principal
from app.storage.repository import Page, TenantRepository


class MemberRepository(TenantRepository[Member]):
    model = Member
    noun = "member"


class PolicyRepository(TenantRepository[Policy]):
    model = Policy
    noun = "policy"


class ClaimRepository(TenantRepository[Claim]):
    model = Claim
    noun = "claim"


@dataclass(frozen=True, slots=True)
class ClaimFilter:
    """`states` empty is any; `year` is that of the day the cost was incurred."""

    states: tuple[ClaimState, ...] = ()
    year: int | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """Claims of one currency; amounts in hundredths."""

    currency: str
    claims: int
    claimed: int
    paid: int


@dataclass(frozen=True, slots=True)
class Balance:
    """One benefit of one policy in one year; amounts in hundredths.

    `paid` is what was paid on claims incurred in the year, `pending` what open ones ask for, `left` the limit less what
    was paid.
    """

    policy: Policy
    benefit: str
    limit: int
    paid: int
    pending: int

    @property
    def left(self) -> int:
        return max(0, self.limit - self.paid)


class OwnRecords:
    """What one user of one tenant may see. No method takes a user or a tenant: there is no way to ask for another's."""

    def __init__(self, session: AsyncSession, tenant_id: str, user_id: str) -> None:
        self._session = session
        self._policies = PolicyRepository(session, tenant_id)
        self._claims = ClaimRepository(session, tenant_id)
        self._user_id = user_id

    @classmethod
    def of(cls, session: AsyncSession, principal: Principal) -> "OwnRecords":
        """Those of the signed-in user. Raises Forbidden for an API key, which stands for nobody in particular."""
        if principal.user_id is None:
            raise Forbidden(
                "This is for a signed-in member: get a token for them (POST /v1/users/{user_id}/token) and send that."
            )
        return cls(session, principal.tenant_id, principal.user_id)

    async def policies(self) -> Sequence[Policy]:
        """Newest first."""
        query = self._policies.query(self._own_policy()).order_by(Policy.starts_on.desc(), Policy.number)
        found: Sequence[Policy] = (await self._session.scalars(query)).all()
        return found

    async def claims(self, wanted: ClaimFilter, limit: int) -> Sequence[tuple[Claim, Policy]]:
        """The last incurred first, each with its policy."""
        query = (
            self._claims.query(*self._where(wanted))
            .join(Policy, Claim.policy_id == Policy.id)
            .add_columns(Policy)
            .where(self._own_policy())
            .order_by(Claim.incurred_on.desc(), Claim.number.desc())
            .limit(limit)
        )
        return [(claim, policy) for claim, policy in (await self._session.execute(query)).all()]

    async def totals(self, wanted: ClaimFilter) -> Sequence[Total]:
        """Of all claims that the filter takes, by currency."""
        query = (
            select(Policy.currency, func.count(), func.sum(Claim.amount_claimed), func.sum(Claim.amount_paid))
            .join(Policy, Claim.policy_id == Policy.id)
            .where(Claim.tenant_id == self._claims.tenant_id, *self._where(wanted))
            .group_by(Policy.currency)
            .order_by(Policy.currency)
        )
        rows = (await self._session.execute(query)).all()
        return [Total(currency, count, int(claimed), int(paid)) for currency, count, claimed, paid in rows]

    async def page(self, wanted: ClaimFilter, cursor: str | None, limit: int) -> Page[Claim]:
        """Newest first by when we learnt of them."""
        return await self._claims.page(*self._where(wanted), cursor=cursor, limit=limit)

    async def claim(self, number: str) -> tuple[Claim, Policy]:
        """Raises NotFound: the same for another's number as for one that nobody has, by the same query."""
        query = (
            self._claims.query(Claim.user_id == self._user_id, Claim.number == number.strip().upper())
            .join(Policy, Claim.policy_id == Policy.id)
            .add_columns(Policy)
        )
        row = (await self._session.execute(query)).one_or_none()
        if row is None:
            raise NotFound("There is no claim with this number among yours: look at the list of your claims.")
        return row[0], row[1]

    async def balances(self, year: int) -> Sequence[Balance]:
        """Of every benefit of the policies that were in force in the year."""
        first, last = date(year, 1, 1), date(year, 12, 31)
        in_force = (Policy.starts_on <= last, or_(Policy.ends_on.is_(None), Policy.ends_on >= first))
        query = self._policies.query(self._own_policy(), *in_force).order_by(Policy.number)
        policies = (await self._session.scalars(query)).all()
        spent = await self._spent(year)
        return [
            Balance(policy, benefit, limit, *spent.get((policy.id, benefit), (0, 0)))
            for policy in policies
            for benefit, limit in sorted(policy.limits.items())
        ]

    async def _spent(self, year: int) -> dict[tuple[str, str], tuple[int, int]]:
        """Paid and pending by policy and benefit."""
        pending = func.sum(case((Claim.state.in_(OPEN), Claim.amount_claimed), else_=0))
        query = (
            select(Claim.policy_id, Claim.benefit, func.sum(Claim.amount_paid), pending)
            .where(Claim.tenant_id == self._claims.tenant_id, *self._where(ClaimFilter(year=year)))
            .group_by(Claim.policy_id, Claim.benefit)
        )
        rows = (await self._session.execute(query)).all()
        return {(policy, benefit): (int(paid), int(waiting)) for policy, benefit, paid, waiting in rows}

    def _own_policy(self) -> ColumnElement[bool]:
        return Policy.user_id == self._user_id

    def _where(self, wanted: ClaimFilter) -> list[ColumnElement[bool]]:
        """The user's own claims that the filter takes."""
        where: list[ColumnElement[bool]] = [Claim.user_id == self._user_id]
        if wanted.states:
            where.append(Claim.state.in_(wanted.states))
        if wanted.year is not None:
            where.append(Claim.incurred_on.between(date(wanted.year, 1, 1), date(wanted.year, 12, 31)))
        return where
