"""What the run loop stored, for people: parked effects to settle, figures to watch, data to give out or erase."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import Approval, ApprovalState, EffectRow, EffectState
from app.clock import Clock
from app.errors import Conflict
from app.governance.audit import Audit
from app.governance.people import ERASED, Alias, Aliases, Kind, batches, person_mark
from app.principal import Principal, Role
from app.storage.repository import TenantRepository


class EffectRepository(TenantRepository[EffectRow]):
    model = EffectRow
    noun = "effect"

    async def parked(self, limit: int = 50) -> Sequence[EffectRow]:
        """The tenant's writes of unknown fate, oldest first."""
        return await self.all(EffectRow.state == EffectState.PARKED, limit=limit)


async def settle_parked(
    session: AsyncSession, principal: Principal, audit: Audit, clock: Clock, effect_id: str, *, happened: bool
) -> EffectRow:
    """A person's word on a parked write: it happened, and is done; or it did not, and may run again.

    Raises NotFound, Conflict where it is not parked, Forbidden below the role 'admin'.
    """
    principal.require(Role.ADMIN)
    effect = await EffectRepository(session, principal.tenant_id).get(effect_id)
    state = EffectState.DONE if happened else EffectState.FAILED
    settle = (
        update(EffectRow)
        .where(EffectRow.id == effect.id, EffectRow.state == EffectState.PARKED)
        .values(
            state=state,
            receipt={"settled_by": principal.actor} if happened else None,
            error="" if happened else f"{principal.actor} found that it did not happen.",
            updated_at=clock(),
        )
        .returning(EffectRow.id)
    )
    settled = await session.scalar(settle)
    await session.refresh(effect)
    if settled is None:
        raise Conflict(f"The effect '{effect.id}' is {effect.state}: only a parked one needs a person.")
    await audit.record(session, principal, "effect.settled", effect.id, {"tool": effect.tool, "happened": happened})
    return effect


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much waits for people, over all tenants: the gauges `effects_parked` and `approvals_pending`."""

    parked: int
    pending: int


async def count_waiting(session: AsyncSession) -> Waiting:
    parked = select(func.count()).select_from(EffectRow).where(EffectRow.state == EffectState.PARKED)
    pending = select(func.count()).select_from(Approval).where(Approval.state == ApprovalState.PENDING)
    return Waiting(await session.scalar(parked) or 0, await session.scalar(pending) or 0)


async def export_subjects(session: AsyncSession, tenant_id: str, subject_ids: Sequence[str]) -> list[dict[str, Any]]:
    """What was written to the outside, or was to be written, about the subjects of a person."""
    effects = select(EffectRow).where(*_about(EffectRow, tenant_id, subject_ids))
    approvals = select(Approval).where(*_about(Approval, tenant_id, subject_ids))
    written = [_exported(row, row.receipt) for row in (await session.scalars(effects)).all()]
    return written + [_exported(row, None) for row in (await session.scalars(approvals)).all()]


def _exported(row: EffectRow | Approval, receipt: Any) -> dict[str, Any]:
    at = row.created_at.isoformat()
    return {"at": at, "tool": row.tool, "state": row.state, "args": row.args, "receipt": receipt}


async def erase_subjects(session: AsyncSession, tenant_id: str, subject_ids: Sequence[str]) -> int:
    """Blanks arguments and receipts about the subjects; what is left says that a write happened, not what it said.

    A write that still waits or is parked is ended, so that it cannot run with blank arguments. Returns the
    number of rows that said something.
    """
    effects = update(EffectRow).where(*_about(EffectRow, tenant_id, subject_ids))
    blank = {"args": ERASED, "receipt": ERASED, "error": "", "state": EffectState.DONE}
    erased = list(await session.scalars(effects.values(**blank).returning(EffectRow.id)))
    approvals = update(Approval).where(*_about(Approval, tenant_id, subject_ids))
    pending = approvals.where(Approval.state == ApprovalState.PENDING)
    await session.execute(pending.values(state=ApprovalState.REJECTED, decided_by="erasure"))
    erased += list(await session.scalars(approvals.values(args=ERASED).returning(Approval.id)))
    return len(erased)


def _about(
    model: type[EffectRow] | type[Approval], tenant_id: str, subject_ids: Sequence[str]
) -> tuple[ColumnElement[bool], ...]:
    return model.tenant_id == tenant_id, model.subject_id.in_(subject_ids), model.args != ERASED


class WritesOfPerson:
    """`PersonStore` of the ledger of effects and of approvals, by the decisions that they carry out."""

    name = "writes"

    def __init__(self, secret: bytes) -> None:
        """`secret`: of the marks that stand for a person (`person_mark`)."""
        self._secret = secret

    async def aliases(self, _session: AsyncSession, _tenant_id: str, _known: Aliases) -> set[Alias]:
        return set()

    async def export(self, session: AsyncSession, tenant_id: str, known: Aliases) -> list[dict[str, Any]]:
        found = [
            await export_subjects(session, tenant_id, batch) for batch in batches(self._subjects(tenant_id, known))
        ]
        return [row for rows in found for row in rows]

    async def erase(self, session: AsyncSession, tenant_id: str, known: Aliases) -> int:
        return sum(
            [await erase_subjects(session, tenant_id, batch) for batch in batches(self._subjects(tenant_id, known))]
        )

    def _subjects(self, tenant_id: str, known: Aliases) -> list[str]:
        """Decisions, records, and the marks by which writes that other agents asked for name a person."""
        addresses = [Alias(Kind.EMAIL, address) for address in known.of(Kind.EMAIL)]
        marks = [person_mark(self._secret, tenant_id, address) for address in addresses]
        return known.of(Kind.DECISION, Kind.RECORD) + marks
