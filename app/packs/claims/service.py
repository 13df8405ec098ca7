"""Members, policies and claims: what is put in, and what the signed-in member reads."""

from pathlib import Path

from app.cache.base import person_tag
from app.pack import Kit
from app.packs.claims.importing import Importer
from app.packs.claims.reading import read_members
from app.packs.claims.repository import ClaimFilter, OwnRecords
from app.packs.claims.schemas import (
    BalanceOut,
    Balances,
    ClaimDetail,
    ClaimOut,
    ClaimPage,
    ImportReport,
    MembersIn,
    PolicyOut,
)
from app.packs.claims.tools import BOT
from app.principal import Principal

SAMPLE = Path(__file__).with_name("sample")


class ClaimsService:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db
        self._importer = Importer(kit.ports.clock, kit.audit)

    async def put_members(self, principal: Principal, given: MembersIn) -> ImportReport:
        """All of them or none, in a transaction of its own. Answers that rested on what changed are dropped after it.

        Raises Forbidden below the role 'admin', InvalidInput as `Importer.put`.
        """
        async with self._db.transaction(principal.tenant_id) as session:
            report, touched = await self._importer.put(session, principal, given.members)
        await self._kit.caches.drop(*(person_tag(principal.tenant_id, user) for user in sorted(touched)))
        return report

    async def load_sample(self, principal: Principal) -> int:
        """The pages and the members that ship; the number of new claims."""
        for path in sorted((SAMPLE / "knowledge").glob("*.md")):
            await self._kit.ingestor.put_page(principal.tenant_id, BOT, path.read_text("utf-8"))
        report = await self.put_members(principal, read_members("text/csv", (SAMPLE / "members.csv").read_bytes()))
        return report.claims.new

    async def policies(self, principal: Principal) -> list[PolicyOut]:
        async with self._db.reading(principal.tenant_id) as session:
            found = await OwnRecords.of(session, principal).policies()
        return [PolicyOut.of(policy) for policy in found]

    async def claims(self, principal: Principal, wanted: ClaimFilter, cursor: str | None, limit: int) -> ClaimPage:
        """Newest first by when we learnt of them."""
        async with self._db.reading(principal.tenant_id) as session:
            own = OwnRecords.of(session, principal)
            page = await own.page(wanted, cursor, limit)
            policies = {policy.id: policy for policy in await own.policies()}
        items = [ClaimOut.of(claim, policies[claim.policy_id]) for claim in page.items]
        return ClaimPage(items=items, next_cursor=page.next_cursor)

    async def claim(self, principal: Principal, number: str) -> ClaimDetail:
        """Raises NotFound, for another's claim too."""
        async with self._db.reading(principal.tenant_id) as session:
            return ClaimDetail.of(*await OwnRecords.of(session, principal).claim(number))

    async def balances(self, principal: Principal, year: int | None) -> Balances:
        """Of the present year where None."""
        year = year or self._kit.ports.clock().year
        async with self._db.reading(principal.tenant_id) as session:
            found = await OwnRecords.of(session, principal).balances(year)
        return Balances(year=year, balances=[BalanceOut.of(balance) for balance in found])
