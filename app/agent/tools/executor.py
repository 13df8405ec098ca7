"""Carries out planned calls: policy, approval, ledger, then the tool; independent ones in parallel."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from app.agent.breaker import Breakers
from app.agent.models import Approval, ApprovalState, EffectState, ToolMode
from app.agent.resilience import RetryPolicy
from app.agent.tools.approvals import Approvals
from app.agent.tools.base import (
    UNKNOWN_TOOL,
    Effect,
    OutcomeState,
    Tool,
    ToolCallPlan,
    ToolContext,
    ToolOutcome,
    ToolRegistry,
)
from app.agent.tools.graph import check_plans, run_in_order
from app.agent.tools.ledger import Claim, EffectLedger, Verdict, Want
from app.agent.tools.policies import ToolPolicies
from app.agent.tools.runner import Ran, ToolRunner
from app.clock import Clock
from app.governance.audit import Audit
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

_POLL_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_LEASE_MARGIN_S: Final = 5.0


class ToolExecutor:
    """Executes plans for a tenant. Every way that a call can end is an outcome, not an exception.

    Args:
        ledger: of the effects; one over `db` where None.
    """

    def __init__(
        self,
        db: Database,
        clock: Clock,
        registry: ToolRegistry,
        policies: ToolPolicies,
        breakers: Breakers,
        audit: Audit,
        *,
        metrics: Metrics,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        ledger: EffectLedger | None = None,
    ) -> None:
        self.registry = registry
        self.policies = policies
        self.approvals = Approvals(clock, audit, metrics)
        self._db = db
        self._audit = audit
        self._metrics = metrics
        self._ledger = ledger or EffectLedger(db, clock)
        self._runner = ToolRunner(breakers, retry)

    async def execute(self, principal: Principal, subject_id: str, plans: Sequence[ToolCallPlan]) -> list[ToolOutcome]:
        """One outcome for each plan, in their order.

        Safe to repeat with the same keys, after a crash too: what is done gives back its receipt, what waits
        for approval goes on waiting, what was skipped gets its turn.

        Raises InvalidInput where the plans contradict themselves (see `check_plans`); nothing ran then.
        """
        check_plans(plans)
        if not plans:
            return []
        modes = await self.policies.modes(principal.tenant_id)

        async def run(plan: ToolCallPlan) -> ToolOutcome:
            return await self._observed(principal, subject_id, plan, modes.get(plan.tool))

        return await run_in_order(plans, run, self._skip)

    async def refuse(self, principal: Principal, subject_id: str, plan: ToolCallPlan, why: str) -> ToolOutcome:
        """A call that may not be made here: counted, audited, not run."""
        outcome = self._outcome(plan, OutcomeState.DENIED, error=why)
        self._count(outcome)
        await self._audit_alone(principal, "tool.denied", subject_id, {"tool": self._label(plan.tool)})
        return outcome

    def fail(self, plan: ToolCallPlan, why: str) -> ToolOutcome:
        """A call that cannot be made, because of how it was asked for: counted, not run."""
        outcome = self._outcome(plan, OutcomeState.FAILED, error=why)
        self._count(outcome)
        return outcome

    async def _observed(
        self, principal: Principal, subject_id: str, plan: ToolCallPlan, mode: ToolMode | None
    ) -> ToolOutcome:
        started = time.perf_counter()
        label = self._label(plan.tool)
        told = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: label, names.TOOL_TYPE: "function"}
        with spans.span(names.named(names.EXECUTE_TOOL, label), told) as span:
            outcome = await self._run(principal, subject_id, plan, mode)
            span.set_attribute(names.TOOL_STATE, outcome.state.value)
        seconds = time.perf_counter() - started
        self._metrics.tool_duration_seconds.labels(label).observe(seconds)
        self._count(outcome)
        return ToolOutcome(
            outcome.tool, outcome.key, outcome.state, outcome.result, outcome.error, seconds * 1000, outcome.effect
        )

    async def _run(
        self, principal: Principal, subject_id: str, plan: ToolCallPlan, mode: ToolMode | None
    ) -> ToolOutcome:
        tool = self.registry.get(plan.tool)
        if tool is None:
            return self._outcome(plan, OutcomeState.DENIED, error=f"There is no tool '{plan.tool[:64]}'.")
        if mode is None:
            return await self._denied(principal, subject_id, plan, "is not on the tenant's allow list")
        if principal.role is Role.USER and not tool.for_users:
            return await self._denied(principal, subject_id, plan, "is not for end users")
        args = _validated(tool, plan.args)
        if isinstance(args, str):
            return self._outcome(plan, OutcomeState.FAILED, error=args)
        context = ToolContext(principal, plan.key, subject_id)
        if tool.effect is Effect.READ:
            ran = await self._runner.run(tool, context, args)
            state = OutcomeState.FAILED if ran.error else OutcomeState.DONE
            return self._outcome(plan, state, ran.result, ran.error)
        if mode is ToolMode.APPROVE:
            approval = await self._approval(context, plan, args)
            if approval.state != ApprovalState.APPROVED:
                return self._not_approved(plan, approval)
            return await self._write(tool, context, plan, approval.args)
        return await self._write(tool, context, plan, args.model_dump(mode="json"))

    async def _denied(self, principal: Principal, subject_id: str, plan: ToolCallPlan, why: str) -> ToolOutcome:
        await self._audit_alone(principal, "tool.denied", subject_id, {"tool": plan.tool})
        return self._outcome(plan, OutcomeState.DENIED, error=f"The tool '{plan.tool}' {why}.")

    async def _write(
        self, tool: Tool, context: ToolContext, plan: ToolCallPlan, wanted: Mapping[str, Any]
    ) -> ToolOutcome:
        claim = await self._claimed(tool, context, wanted)
        if claim.verdict is Verdict.DONE:
            return self._outcome(plan, OutcomeState.DONE, claim.receipt)
        if claim.verdict is Verdict.PARKED:
            return self._outcome(plan, OutcomeState.PARKED, error=claim.error)
        if claim.verdict is Verdict.TAKEN:
            why = f"The key '{plan.key}' belongs to a call of another tool."
            return self._outcome(plan, OutcomeState.FAILED, error=why)
        # What was wanted first is what runs; it may stem from an older version of the tool.
        args = _validated(tool, claim.args)
        try:
            ran = Ran(error=args) if isinstance(args, str) else await self._runner.run(tool, context, args)
        except BaseException:
            self._ledger.forget(claim)
            raise
        return await self._finished(context, plan, claim, ran)

    async def _finished(self, context: ToolContext, plan: ToolCallPlan, claim: Claim, ran: Ran) -> ToolOutcome:
        if not ran.error:
            await self._ledger.finish(claim, EffectState.DONE, receipt=ran.result)
            return self._outcome(plan, OutcomeState.DONE, ran.result)
        if not ran.uncertain:
            await self._ledger.finish(claim, EffectState.FAILED, error=ran.error)
            return self._outcome(plan, OutcomeState.FAILED, error=ran.error)
        error = f"{ran.error} It may have happened all the same: look, then settle it by hand."
        await self._ledger.finish(claim, EffectState.PARKED, error=error)
        await self._audit_alone(context.principal, "effect.parked", context.subject_id, {"tool": plan.tool})
        return self._outcome(plan, OutcomeState.PARKED, error=error)

    async def _claimed(self, tool: Tool, context: ToolContext, args: Mapping[str, Any]) -> Claim:
        """A claim that is not busy: waits for whoever runs the same write now."""
        lease_s = self._runner.longest_s(tool) + _LEASE_MARGIN_S
        want = Want(
            context.principal.tenant_id, context.subject_id, context.key, tool.name, args, tool.repeatable, lease_s
        )
        polls = 0
        while True:
            claim = await self._ledger.claim(want)
            if claim.verdict is not Verdict.BUSY:
                return claim
            await asyncio.sleep(_POLL_S[min(polls, len(_POLL_S) - 1)])
            polls += 1

    async def _approval(self, context: ToolContext, plan: ToolCallPlan, args: BaseModel) -> Approval:
        async with self._db.transaction(context.principal.tenant_id) as session:
            return await self.approvals.request(
                session, context.principal, context.subject_id, plan, args.model_dump(mode="json")
            )

    def _not_approved(self, plan: ToolCallPlan, approval: Approval) -> ToolOutcome:
        if approval.state == ApprovalState.PENDING:
            return self._outcome(plan, OutcomeState.WAITING_APPROVAL, error="It waits for a person's approval.")
        return self._outcome(plan, OutcomeState.DENIED, error=f"It was rejected by {approval.decided_by}.")

    def _skip(self, plan: ToolCallPlan, why: str) -> ToolOutcome:
        outcome = self._outcome(plan, OutcomeState.SKIPPED, error=why)
        self._count(outcome)
        return outcome

    def _outcome(self, plan: ToolCallPlan, state: OutcomeState, result: Any = None, error: str = "") -> ToolOutcome:
        tool = self.registry.get(plan.tool)
        return ToolOutcome(plan.tool, plan.key, state, result, error, effect=tool.effect if tool else Effect.READ)

    def _count(self, outcome: ToolOutcome) -> None:
        self._metrics.tool_calls.labels(self._label(outcome.tool), outcome.state.value).inc()

    def _label(self, name: str) -> str:
        return name if self.registry.get(name) is not None else UNKNOWN_TOOL

    async def _audit_alone(self, principal: Principal, action: str, subject: str, data: Mapping[str, Any]) -> None:
        async with self._db.transaction(principal.tenant_id) as session:
            await self._audit.record(session, principal, action, subject, data)


def _validated(tool: Tool, args: Mapping[str, Any]) -> BaseModel | str:
    """The arguments as the tool's type, or one sentence on what is wrong with them."""
    try:
        return tool.args.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        return f"The arguments of '{tool.name}' are not valid{f' at {where}' if where else ''}: {message}."
