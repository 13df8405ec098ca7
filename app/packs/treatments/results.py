"""What a run decided, customer by customer: pages for the API, parts for files, in the order of the customers."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.models import Customer, Result, ResultState
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.schemas_runs import OptionOut, ResultOut, ResultPage
from app.storage.base import MICROS
from app.storage.db import Database


@dataclass(frozen=True, slots=True)
class ResultFilter:
    state: ResultState | None = None
    treatment: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """One for each filter that is set."""
        wanted = ((Result.state, self.state), (Result.treatment, self.treatment))
        return [column == value for column, value in wanted if value is not None]


def _query(tenant_id: str, *where: ColumnElement[bool]) -> Any:
    with_customer = select(Result, Customer.external_id).join(Customer, Customer.id == Result.customer_id)
    return with_customer.where(Result.tenant_id == tenant_id, *where)


class Results:
    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session = session
        self._tenant_id = tenant_id

    async def page(self, run_id: str, wanted: ResultFilter, cursor: str | None, limit: int) -> ResultPage:
        """Raises NotFound for a run that is not there."""
        await RunRepository(self._session, self._tenant_id).get(run_id)
        rows = await self.rows(run_id, wanted, cursor or "", limit + 1)
        more = rows[limit - 1][0].customer_id if len(rows) > limit else None
        return ResultPage(items=[result_out(*row) for row in rows[:limit]], next_cursor=more)

    async def rows(self, run_id: str, wanted: ResultFilter, after: str, limit: int) -> Sequence[tuple[Result, str]]:
        """Results with their customers' external ids, after the customer `after`."""
        # Said of both tables: a merge of the two would else walk all customers before it.
        behind = (Result.customer_id > after, Customer.id > after)
        where = (Result.run_id == run_id, *behind, *wanted.conditions())
        found = await self._session.execute(_query(self._tenant_id, *where).order_by(Result.customer_id).limit(limit))
        return [(row[0], row[1]) for row in found]

    async def of_customer(self, run_id: str, customer: str) -> ResultOut:
        """By the tenant's own id of the customer, or by ours. Raises NotFound."""
        known = await CustomerRepository(self._session, self._tenant_id).named(customer)
        where = (Result.run_id == run_id, Result.customer_id == known.id)
        found = (await self._session.execute(_query(self._tenant_id, *where))).first()
        if found is None:
            raise NotFound(f"The run '{run_id[:80]}' has no result for the customer '{customer[:80]}'.")
        return result_out(found[0], found[1])


async def parts(
    db: Database, tenant_id: str, run_id: str, wanted: ResultFilter, size: int
) -> AsyncIterator[Sequence[tuple[Result, str]]]:
    """All results of a run in parts of `size`, each read in a session of its own: none is held over a yield."""
    after = ""
    while True:
        async with db.reading(tenant_id) as session:
            rows = await Results(session, tenant_id).rows(run_id, wanted, after, size)
        if rows:
            yield rows
        if len(rows) < size:
            return
        after = rows[-1][0].customer_id


def result_out(row: Result, external_id: str) -> ResultOut:
    same = ("customer_id", "run_id", "state", "treatment", "reason", "fair_group", "fingerprint", "seen")
    return ResultOut(
        **{name: getattr(row, name) for name in (*same, "answer_id", "allocation_id", "updated_at")},
        external_id=external_id,
        net_usd=row.net_micros / MICROS,
        options=[_option(option) for option in row.options],
        decided_at=row.created_at,
    )


def _option(option: dict[str, Any]) -> OptionOut:
    return OptionOut(
        treatment=option["treatment"],
        chance=option["chance"],
        value_usd=option["value_micros"] / MICROS,
        cost_usd=option["cost_micros"] / MICROS,
        reason=option["reason"],
    )
