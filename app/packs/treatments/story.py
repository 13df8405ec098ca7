"""Puts a customer's story together: each run's decision, what it saw, what it was allocated, and what came of it."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.pack import Kit
from app.packs.treatments.customer_rows import CustomerRepository
from app.packs.treatments.models import (
    Allocation,
    Customer,
    ModelAnswer,
    Outcome,
    Reservation,
    Result,
    ResultState,
    Run,
)
from app.packs.treatments.results import result_out
from app.packs.treatments.schemas_story import (
    AllocationTold,
    AnswerTold,
    DecisionTold,
    OutcomeTold,
    ReservationTold,
    RunTold,
    StoryOut,
)
from app.principal import Principal
from app.storage.base import MICROS

MOST_DECISIONS: Final = 50
MOST_OTHERS: Final = 200


class Stories:
    def __init__(self, kit: Kit) -> None:
        self._db = kit.ports.db

    async def of(self, principal: Principal, customer: str) -> StoryOut:
        """By the tenant's own id of the customer, or by ours. Raises NotFound."""
        async with self._db.reading(principal.tenant_id) as session:
            return await _Story(session, principal.tenant_id).tell(customer)


class _Story:
    def __init__(self, session: AsyncSession, tenant_id: str) -> None:
        self._session = session
        self._tenant_id = tenant_id

    async def tell(self, name: str) -> StoryOut:
        customer = await CustomerRepository(self._session, self._tenant_id).named(name)
        of_customer = (Result.tenant_id == self._tenant_id, Result.customer_id == customer.id)
        total = await self._session.scalar(select(func.count()).select_from(Result).where(*of_customer))
        return StoryOut(
            customer_id=customer.id,
            external_id=customer.external_id,
            segment=customer.segment,
            fair_group=customer.fair_group,
            worth_usd=customer.worth_micros / MICROS,
            known_since=customer.created_at,
            decisions_total=total or 0,
            decisions=await self._decisions(customer),
            reservations=[_reservation(row) for row in await self._newest(Reservation, customer.id)],
            outcomes=[_outcome(row) for row in await self._newest(Outcome, customer.id)],
        )

    async def _decisions(self, customer: Customer) -> list[DecisionTold]:
        query = (
            select(Result, Run, ModelAnswer, Allocation)
            .join(Run, Run.id == Result.run_id)
            .outerjoin(ModelAnswer, ModelAnswer.id == Result.answer_id)
            .outerjoin(Allocation, Allocation.id == Result.allocation_id)
            .where(Result.tenant_id == self._tenant_id, Result.customer_id == customer.id)
            .order_by(Result.run_id.desc())
            .limit(MOST_DECISIONS)
        )
        rows = (await self._session.execute(query)).all()
        return [await self._decision(customer, *row) for row in rows]

    async def _decision(
        self, customer: Customer, result: Result, run: Run, answer: ModelAnswer | None, allocation: Allocation | None
    ) -> DecisionTold:
        return DecisionTold(
            run=RunTold.model_validate({name: getattr(run, name) for name in RunTold.model_fields}),
            result=result_out(result, customer.external_id),
            answer=_answer(answer) if answer else None,
            allocation=_allocation(allocation) if allocation else None,
            queue_position=await self._position(result) if result.state == ResultState.QUEUED else None,
        )

    async def _position(self, result: Result) -> int:
        """The queue is in the order of value, then of the customers' ids."""
        before = or_(
            Result.net_micros > result.net_micros,
            (Result.net_micros == result.net_micros) & (Result.customer_id < result.customer_id),
        )
        of_queue = (Result.tenant_id == self._tenant_id, Result.run_id == result.run_id)
        waiting = select(func.count()).select_from(Result).where(*of_queue, Result.state == ResultState.QUEUED, before)
        return 1 + int(await self._session.scalar(waiting) or 0)

    async def _newest(self, kind: type[Any], customer_id: str) -> Sequence[Any]:
        """Reservations or outcomes."""
        where = (kind.tenant_id == self._tenant_id, kind.customer_id == customer_id)
        return (
            await self._session.scalars(select(kind).where(*where).order_by(kind.id.desc()).limit(MOST_OTHERS))
        ).all()


def _answer(row: ModelAnswer) -> AnswerTold:
    same = ("id", "model", "provider", "prompt_version", "catalogue_version", "profile", "proposals")
    return AnswerTold(**{name: getattr(row, name) for name in same}, asked_at=row.created_at)


def _allocation(row: Allocation) -> AllocationTold:
    same = ("id", "number", "day", "method", "feasible", "gap", "problem", "report", "created_by")
    return AllocationTold(
        **{name: getattr(row, name) for name in same},
        value_usd=row.value_micros / MICROS,
        score_usd=row.report.get("score_micros", 0) / MICROS,
        bound_usd=row.bound_micros / MICROS,
        made_at=row.created_at,
    )


def _reservation(row: Reservation) -> ReservationTold:
    same = ("id", "treatment", "day", "state", "run_id", "expires_at", "updated_at", "note")
    told = {name: getattr(row, name) for name in same}
    return ReservationTold(**told, cost_usd=row.cost_micros / MICROS, made_at=row.created_at)


def _outcome(row: Outcome) -> OutcomeTold:
    same = ("at", "treatment", "success", "run_id")
    return OutcomeTold(**{name: getattr(row, name) for name in same}, value_usd=row.value_micros / MICROS)
