"""Rows of customers, of their events and of outcomes."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, select

from app.packs.treatments.models import Customer, CustomerEvent, Outcome
from app.storage.repository import TenantRepository

AT_ONCE = 500
"""Values in one SQL condition."""


class CustomerRepository(TenantRepository[Customer]):
    model, noun = Customer, "customer"

    async def named(self, name: str) -> Customer:
        """By the tenant's own id of the customer, else by ours. Raises NotFound."""
        row = await self.first(Customer.external_id == name)
        return row if row is not None else await self.get(name)

    async def ids_of(self, external_ids: Collection[str]) -> dict[str, str]:
        """Our id of each that there is."""
        found: dict[str, str] = {}
        for part in parts(sorted(external_ids)):
            query = select(Customer.external_id, Customer.id).where(
                Customer.tenant_id == self.tenant_id, Customer.external_id.in_(part)
            )
            found.update({row.external_id: row.id for row in await self.session.execute(query)})
        return found


class EventRepository(TenantRepository[CustomerEvent]):
    model, noun = CustomerEvent, "event"

    async def newest(self, customer_id: str, limit: int) -> Sequence[CustomerEvent]:
        """Newest first."""
        query = self.query(CustomerEvent.customer_id == customer_id)
        ordered = query.order_by(CustomerEvent.at.desc(), CustomerEvent.id.desc()).limit(limit)
        rows: Sequence[CustomerEvent] = (await self.session.scalars(ordered)).all()
        return rows

    async def count(self, customer_id: str) -> int:
        where = (CustomerEvent.tenant_id == self.tenant_id, CustomerEvent.customer_id == customer_id)
        return int(await self.session.scalar(select(func.count()).select_from(CustomerEvent).where(*where)) or 0)


class OutcomeRepository(TenantRepository[Outcome]):
    model, noun = Outcome, "outcome"


def parts(values: Sequence[Any], size: int = AT_ONCE) -> list[Sequence[Any]]:
    """The values in pieces that one statement takes."""
    return [values[start : start + size] for start in range(0, len(values), size)]
