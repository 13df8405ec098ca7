"""What the rows of treatments hold of a person."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.governance.people import Alias, Aliases, Kind, batches, plain
from app.pack import Kit
from app.packs.treatments.answers import forget_answers
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.models import Customer, CustomerEvent, Outcome, Reservation, Result, RunMember
from app.packs.treatments.reservations import forget
from app.packs.treatments.run_rows import deleted

_OF_CUSTOMER: Final = (CustomerEvent, Outcome, Result, Reservation, RunMember)


class TreatmentsOfPerson:
    """`PersonStore` of customers with events, outcomes, results, reservations and places in lists, all of which go.

    Counts of cases stay, and the model's answers that somebody else shares: they hold coarse words, and nobody. An
    answer about words that this person alone had goes too.
    An address leads to every customer who has it; a customer leads to their address only where nobody else has it.
    """

    name = "treatments"

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def aliases(self, session: AsyncSession, tenant_id: str, known: Aliases) -> set[Alias]:
        found: set[Alias] = set()
        for batch in batches(known.of(Kind.EMAIL)):
            rows = await CustomerRepository(session, tenant_id).all(Customer.email.in_(batch))
            found |= {Alias(Kind.USER, row.external_id) for row in rows}
        customers = await self._customers(session, tenant_id, known)
        emails = {customer.email for customer in customers} - {""}
        found |= {Alias(Kind.RECORD, customer.id) for customer in customers}
        return found | {Alias(Kind.EMAIL, email) for email in await self._sole(session, tenant_id, sorted(emails))}

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        customers = await self._customers(session, tenant_id, known)
        rows = [plain(customer) for customer in customers]
        for batch in batches([customer.id for customer in customers]):
            for model in _OF_CUSTOMER:
                query = select(model).where(model.tenant_id == tenant_id, model.customer_id.in_(batch))
                rows += [plain(row) for row in await session.scalars(query.order_by(model.id))]
        return rows

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        rows = 0
        for batch in batches([customer.id for customer in await self._customers(session, tenant_id, known)]):
            await forget(session, self._kit, tenant_id, batch)
            rows += await forget_answers(session, tenant_id, batch)
            for model in _OF_CUSTOMER:
                rows += await deleted(session, model, model.tenant_id == tenant_id, model.customer_id.in_(batch))
            rows += await deleted(session, Customer, Customer.tenant_id == tenant_id, Customer.id.in_(batch))
        return rows

    async def _customers(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[Customer]:
        repository = CustomerRepository(session, tenant_id)
        found: list[Customer] = []
        for batch in batches(known.of(Kind.USER)):
            found += await repository.all(Customer.external_id.in_(batch))
        return found

    async def _sole(self, session: AsyncSession, tenant_id: str, emails: Sequence[str]) -> list[str]:
        found: list[str] = []
        for batch in batches(emails):
            once = (
                select(Customer.email)
                .where(Customer.tenant_id == tenant_id, Customer.email.in_(batch))
                .group_by(Customer.email)
                .having(func.count() == 1)
            )
            found += await session.scalars(once)
        return found
