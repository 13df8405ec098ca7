"""The evaluation agent: what a run was worth, its customers against those who were held back on purpose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Float, case, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.pack import Kit
from app.packs.treatments.models import Outcome, Result, ResultState, Run
from app.packs.treatments.run_rows import RunRepository
from app.packs.treatments.schemas_evaluation import ArmOut, EvaluationOut, UpliftOut
from app.packs.treatments.stages import RunAnswered, RunAsked
from app.packs.treatments.uplift import Arm, Uplift, uplift
from app.principal import Principal
from app.storage.base import MICROS

DECIDED_ARM: Final = "decided"
CONTROL_ARM: Final = "control"
DECIDED: Final = (ResultState.ALLOCATED, ResultState.QUEUED, ResultState.NONE, ResultState.PROPOSED)


@dataclass(frozen=True, slots=True)
class Counted:
    """Customers of one state and treatment. `known` are those of whom an outcome was recorded for the run; a customer
    succeeded where any of theirs did. Values in US dollars."""

    state: str
    treatment: str
    customers: int
    known: int
    successes: int
    value: float
    value_squares: float


class EvaluationStage:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._db = kit.ports.db

    async def handle(self, asked: RunAsked) -> RunAnswered:
        """Keeps what the run is worth by the outcomes known now with the run; nothing where there are none yet."""
        async with self._db.transaction(asked.tenant_id) as session:
            run = await RunRepository(session, asked.tenant_id).find(asked.run_id)
            if run is None:
                return RunAnswered("", "The run is not there any more.")
            found = self.evaluated(run, await counts(session, run))
            if not any(arm.known for arm in found.arms):
                return RunAnswered(run.id, "No outcome is known yet.")
            run.evaluation = found.model_dump(mode="json")
        return RunAnswered(run.id, found.note)

    async def show(self, session: AsyncSession, principal: Principal, run_id: str) -> EvaluationOut:
        """By the outcomes known now. Raises NotFound for an unknown run."""
        run = await RunRepository(session, principal.tenant_id).get(run_id)
        return self.evaluated(run, await counts(session, run))

    def evaluated(self, run: Run, counted: Sequence[Counted]) -> EvaluationOut:
        """Of a run's counts."""
        allocated = [one for one in counted if one.state == ResultState.ALLOCATED]
        control = [one for one in counted if one.state == ResultState.CONTROL]
        arms = {DECIDED_ARM: [one for one in counted if one.state in DECIDED], CONTROL_ARM: control}
        treatments = {name: [one for one in allocated if one.treatment == name] for name in _named(allocated)}
        held_back = _arm(control)
        of_all = uplift(_arm(arms[DECIDED_ARM]), held_back)
        return EvaluationOut(
            run_id=run.id,
            at=self._kit.ports.clock(),
            arms=[_arm_out(name, part) for name, part in {**arms, **treatments}.items()],
            uplift=_uplift_out(DECIDED_ARM, of_all),
            by_treatment=[_uplift_out(name, uplift(_arm(part), held_back)) for name, part in treatments.items()],
            note=of_all.note,
        )


def _named(counted: Sequence[Counted]) -> list[str]:
    return sorted({one.treatment for one in counted})


def _arm(counted: Sequence[Counted]) -> Arm:
    """Those whose outcome is known."""
    return Arm(
        customers=sum(one.known for one in counted),
        successes=sum(one.successes for one in counted),
        value=sum(one.value for one in counted),
        value_squares=sum(one.value_squares for one in counted),
    )


def _arm_out(name: str, counted: Sequence[Counted]) -> ArmOut:
    arm = _arm(counted)
    return ArmOut(
        name=name,
        customers=sum(one.customers for one in counted),
        known=arm.customers,
        successes=arm.successes,
        value_usd=arm.value,
        mean_value_usd=arm.mean,
    )


def _uplift_out(arm: str, found: Uplift) -> UpliftOut:
    success = found.success
    return UpliftOut(
        arm=arm,
        success=success.difference,
        success_interval95=success.interval95,
        p_value=success.p_value,
        value_usd=found.value,
        value_interval95_usd=found.value_interval95,
        needed_per_arm=success.needed_per_arm,
        enough=found.enough,
        significant=success.significant,
        note=found.note,
    )


async def counts(session: AsyncSession, run: Run) -> list[Counted]:
    """A run's customers and their outcomes, by the state and the treatment that they were given."""
    value = cast(func.sum(Outcome.value_micros), Float) / MICROS
    seen = (
        select(
            Outcome.customer_id.label("customer_id"),
            func.max(case((Outcome.success, 1), else_=0)).label("success"),
            value.label("value"),
        )
        .where(Outcome.tenant_id == run.tenant_id, Outcome.run_id == run.id)
        .group_by(Outcome.customer_id)
        .subquery()
    )
    columns: tuple[Any, ...] = (
        func.count(),
        func.count(seen.c.customer_id),
        func.coalesce(func.sum(seen.c.success), 0),
        func.coalesce(func.sum(seen.c.value), 0.0),
        func.coalesce(func.sum(seen.c.value * seen.c.value), 0.0),
    )
    query = (
        select(Result.state, Result.treatment, *columns)
        .outerjoin(seen, seen.c.customer_id == Result.customer_id)
        .where(Result.tenant_id == run.tenant_id, Result.run_id == run.id)
        .group_by(Result.state, Result.treatment)
    )
    rows = (await session.execute(query)).all()
    return [Counted(row[0], row[1], row[2], row[3], int(row[4]), float(row[5]), float(row[6])) for row in rows]
