"""Writes that wait for a person's word."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.agent.models import Approval, ApprovalState
from app.agent.tools.base import ToolCallPlan
from app.clock import Clock
from app.errors import Conflict
from app.governance.audit import Audit
from app.governance.decisions import DecisionRepository
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.repository import TenantRepository
from app.telemetry.metrics import Metrics

Resume = Callable[[AsyncSession, Principal, str], Awaitable[None]]


class ApprovalRepository(TenantRepository[Approval]):
    model = Approval
    noun = "approval"


class Approvals:
    """Asks for, gives and refuses approval, each in the caller's transaction, each audited."""

    def __init__(self, clock: Clock, audit: Audit, metrics: Metrics) -> None:
        self._clock = clock
        self._audit = audit
        self._metrics = metrics

    async def request(
        self,
        session: AsyncSession,
        principal: Principal,
        subject_id: str,
        plan: ToolCallPlan,
        args: Mapping[str, Any],
    ) -> Approval:
        """The approval of the plan's key: the one that exists, with its own arguments, or a new pending one."""
        query = select(Approval).where(Approval.tenant_id == principal.tenant_id, Approval.key == plan.key)
        known = (await session.scalars(query)).one_or_none()
        if known is not None:
            return known
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        row = dialect.insert(Approval).values(
            id=new_id("appr"),
            tenant_id=principal.tenant_id,
            created_at=self._clock(),
            tool=plan.tool,
            args=dict(args),
            key=plan.key,
            subject_id=subject_id,
            state=ApprovalState.PENDING,
            requested_by=principal.actor,
        )
        new = await session.scalar(row.on_conflict_do_nothing().returning(Approval.id))
        approval = (await session.scalars(query)).one()
        if new is not None:
            await self._audit.record(
                session, principal, "approval.requested", approval.id, {"tool": plan.tool, "subject": subject_id}
            )
        return approval

    def count(self, pack: str, *, approved: bool) -> None:
        """Counts a person's word on a write as one on its decision."""
        self._metrics.decision_reviews.labels(pack, "right" if approved else "wrong").inc()

    async def approve(self, session: AsyncSession, principal: Principal, approval_id: str) -> Approval:
        """Lets the write run, with the arguments that it was asked for with.

        Raises NotFound, Conflict where it was decided before, Forbidden below the role 'admin'.
        """
        return await self._decide(session, principal, approval_id, ApprovalState.APPROVED)

    async def reject(self, session: AsyncSession, principal: Principal, approval_id: str) -> Approval:
        """The write will not run. Raises as `approve` does."""
        return await self._decide(session, principal, approval_id, ApprovalState.REJECTED)

    async def _decide(
        self, session: AsyncSession, principal: Principal, approval_id: str, state: ApprovalState
    ) -> Approval:
        principal.require(Role.ADMIN)
        approval = await ApprovalRepository(session, principal.tenant_id).get(approval_id)
        decide = (
            update(Approval)
            .where(Approval.id == approval.id, Approval.state == ApprovalState.PENDING)
            .values(state=state, decided_by=principal.actor, decided_at=self._clock())
            .returning(Approval.id)
        )
        decided = await session.scalar(decide)
        await session.refresh(approval)
        if decided is None:
            raise Conflict(f"The approval '{approval.id}' is already {approval.state}, by {approval.decided_by}.")
        data = {"tool": approval.tool, "subject": approval.subject_id}
        await self._audit.record(session, principal, f"approval.{state.value}", approval.id, data)
        return approval


async def settle(
    approvals: Approvals,
    resumers: Mapping[str, Resume],
    session: AsyncSession,
    principal: Principal,
    approval_id: str,
    *,
    approved: bool,
) -> Approval:
    """Records the person's word and lets the write's decision go on, in one transaction.

    `resumers` holds, by pack, what takes up a decision. Raises as `Approvals.approve` does.
    """
    judge = approvals.approve if approved else approvals.reject
    approval = await judge(session, principal, approval_id)
    pack = await go_on(resumers, session, principal, approval.subject_id)
    if pack is not None:
        approvals.count(pack, approved=approved)
    return approval


async def go_on(
    resumers: Mapping[str, Resume], session: AsyncSession, principal: Principal, subject_id: str
) -> str | None:
    """Takes up the decision that a settled write belongs to; its pack. None: a write of something else."""
    decision = await DecisionRepository(session, principal.tenant_id).find(subject_id)
    if decision is None:
        return None
    resume = resumers.get(decision.pack)
    if resume is not None:
        await resume(session, principal, subject_id)
    return decision.pack
