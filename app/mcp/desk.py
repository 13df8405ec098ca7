"""What other agents may call, and the call itself: the tenant's policy, approval, ledger and audit as for our own."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from app.agent.models import KEY_LENGTH, Approval, EffectRow
from app.agent.tools import Effect, OutcomeState, Tool, ToolCallPlan, ToolExecutor, ToolOutcome
from app.agent.tools.approvals import ApprovalRepository
from app.agent.tools.base import UNKNOWN_TOOL
from app.agent.tools.records import EffectRepository
from app.errors import InvalidInput, NotFound, Unavailable
from app.governance.audit import Audit
from app.governance.flags import MCP, Flags
from app.governance.people import Alias, Kind, person_mark
from app.ids import new_id
from app.principal import Principal, Role
from app.storage.db import Database
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

KEY: Final = "idempotency_key"
SERVER: Final = "trellis"
_STOPPED_S: Final = 30.0
_KEY_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "string",
    "minLength": 1,
    "maxLength": KEY_LENGTH,
    "description": "The same key with the same arguments acts once, however often it is sent.",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as another agent sees it; the schemas are JSON Schema, `gives` None where it is not said."""

    name: str
    description: str
    takes: Mapping[str, Any]
    gives: Mapping[str, Any] | None
    writes: bool


@dataclass(frozen=True, slots=True)
class Served:
    """What came of a call: JSON where it is done, else one sentence that says why not, or what it waits for."""

    data: Any
    sentence: str
    failed: bool


class Desk:
    """Lists and calls the tools that are marked `for_agents`, for the holder of an API key.

    Args:
        secret: marks whom a write is about, so that it is found when that person asks or is erased.
    """

    def __init__(
        self, executor: ToolExecutor, db: Database, audit: Audit, flags: Flags, metrics: Metrics, secret: bytes
    ) -> None:
        self._executor = executor
        self._flags = flags
        self._db = db
        self._audit = audit
        self._metrics = metrics
        self._secret = secret

    async def offered(self, principal: Principal) -> list[Offer]:
        """What the tenant allows and the key's role may do, by name."""
        allowed = await self._executor.policies.modes(principal.tenant_id)
        tools = [self._executor.registry.get(name) for name in self._executor.registry.names if name in allowed]
        return [_offer(tool) for tool in tools if tool is not None and _may(principal, tool)]

    async def call(self, principal: Principal, name: str, args: Mapping[str, Any]) -> Served:
        """Raises NotFound for a tool that is not offered to agents, Forbidden below the role that it needs,
        InvalidInput for a key that came with other arguments, Unavailable for a write while a switch stops them."""
        started, outcome = time.perf_counter(), "failed"
        tool = self._executor.registry.get(name)
        label = name if tool is not None and tool.for_agents else UNKNOWN_TOOL
        with spans.span(names.MCP_SERVE, {names.TOOL: label}) as span:
            try:
                served, outcome = await self._call(principal, name, tool, args)
                return served
            finally:
                span.set_attribute(names.TOOL_STATE, outcome)
                self._metrics.mcp_calls.labels(SERVER, label, outcome).inc()
                self._metrics.mcp_call_duration_seconds.labels(SERVER).observe(time.perf_counter() - started)

    async def _call(
        self, principal: Principal, name: str, tool: Tool | None, args: Mapping[str, Any]
    ) -> tuple[Served, str]:
        if tool is None or not tool.for_agents:
            raise NotFound(f"There is no tool '{name[:64]}' here: list the tools.")
        principal.require(_role(tool))
        if tool.effect is Effect.WRITE and self._flags.killed(MCP, principal.tenant_id):
            raise Unavailable("Writing by MCP is switched off at the moment: try again later.", retry_after=_STOPPED_S)
        wanted, given = _without_key(tool, args)
        key = _ledger_key(principal, tool, given or new_id("key"))
        if given is not None:
            await self._refuse_other_args(principal, tool, key, wanted)
        subject = self._subject(principal, wanted)
        (outcome,) = await self._executor.execute(principal, subject, [ToolCallPlan(tool.name, wanted, key)])
        if tool.effect is Effect.WRITE:
            async with self._db.transaction(principal.tenant_id) as session:
                data = {"tool": tool.name, "state": outcome.state.value}
                await self._audit.record(session, principal, "mcp.call", subject, data)
        return _served(outcome, given), outcome.state.value

    def _subject(self, principal: Principal, args: Mapping[str, Any]) -> str:
        """Whom the call is about, where it names an e-mail address; else an id of its own."""
        email = args.get("email")
        if not isinstance(email, str) or "@" not in email:
            return new_id("call")
        return person_mark(self._secret, principal.tenant_id, Alias(Kind.EMAIL, email.strip().lower()))

    async def _refuse_other_args(self, principal: Principal, tool: Tool, key: str, args: Mapping[str, Any]) -> None:
        try:
            now = tool.args.model_validate(args).model_dump(mode="json")
        except ValidationError:
            return  # the executor says what is wrong
        async with self._db.reading(principal.tenant_id) as session:
            effects, approvals = (
                EffectRepository(session, principal.tenant_id),
                ApprovalRepository(session, principal.tenant_id),
            )
            former = await effects.first(EffectRow.key == key) or await approvals.first(Approval.key == key)
        if former is not None and former.args != now:
            raise InvalidInput(f"This {KEY} came with other arguments before: use a new one for another call.")


def _may(principal: Principal, tool: Tool) -> bool:
    return tool.for_agents and principal.has(_role(tool))


def _role(tool: Tool) -> Role:
    return Role.VIEWER if tool.effect is Effect.READ else Role.AGENT


def _offer(tool: Tool) -> Offer:
    writes = tool.effect is Effect.WRITE
    takes = dict(tool.args.model_json_schema())
    if writes:
        takes["properties"] = {**takes.get("properties", {}), KEY: _KEY_SCHEMA}
    gives = tool.returns.model_json_schema() if tool.returns is not None else None
    return Offer(tool.name, tool.description, takes, gives, writes)


def _without_key(tool: Tool, args: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The tool's own arguments, and the client's key."""
    if tool.effect is Effect.READ or KEY not in args:
        return dict(args), None
    key = args[KEY]
    if not isinstance(key, str) or not 1 <= len(key) <= KEY_LENGTH:
        raise InvalidInput(f"'{KEY}' must be a text of 1 to {KEY_LENGTH} characters.")
    return {name: value for name, value in args.items() if name != KEY}, key


def _ledger_key(principal: Principal, tool: Tool, key: str) -> str:
    """A client's keys are its own: the same text under another API key, or for another tool, is another call."""
    text = "\0".join((principal.actor, tool.name, key))
    return f"mcp:{hashlib.blake2b(text.encode(), digest_size=24).hexdigest()}"


def _served(outcome: ToolOutcome, key: str | None) -> Served:
    if outcome.state is OutcomeState.DONE:
        return Served(outcome.result, "", failed=False)
    if outcome.state is not OutcomeState.WAITING_APPROVAL:
        return Served(None, outcome.error, failed=True)
    if key is None:
        again = f"Call again with an '{KEY}' of your own to be able to ask what came of it."
    else:
        again = f"Call again with the same arguments and {KEY} to learn what came of it."
    return Served({"state": outcome.state.value}, f"{outcome.error} {again}", failed=False)
