"""Runs one tool: time limit, attempts, breaker, and a check of what it gives back."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
import structlog
from pydantic import BaseModel, ValidationError

from app.agent.breaker import BreakerOpen, Breakers
from app.agent.resilience import RetryPolicy, may_pass, with_retries
from app.agent.tools.base import Tool, ToolContext
from app.errors import TrellisError

_log = structlog.get_logger(__name__)
MAX_RESULT_BYTES: Final = 256 << 10


class ToolTimeout(TrellisError):
    status, code, title = 504, "tool-timeout", "A tool did not end in time"
    retryable = True
    uncertain = True


class BadResult(TrellisError):
    status, code, title = 502, "tool-result", "A tool gave back what it should not"
    retryable = False
    uncertain = True


class ToolCrashed(TrellisError):
    status, code, title = 500, "tool-crashed", "A tool failed"
    retryable = False
    uncertain = True


@dataclass(frozen=True, slots=True)
class Ran:
    """A result, or an error in one sentence; `uncertain` where the tool may have had its effect all the same."""

    result: Any = None
    error: str = ""
    uncertain: bool = False


class ToolRunner:
    """Runs tools until their last attempt; never raises but for cancellation."""

    def __init__(self, breakers: Breakers, retry: RetryPolicy) -> None:
        self._breakers = breakers
        self._retry = retry
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def run(self, tool: Tool, context: ToolContext, args: BaseModel) -> Ran:
        loop = asyncio.get_running_loop()
        breaker = self._breakers.get(f"tool:{tool.name}", context.principal.tenant_id)

        async def attempt() -> Any:
            with breaker.guard(_speaks_against):
                return _checked(tool, await self._once(tool, context, args))

        try:
            return Ran(
                await with_retries(
                    attempt,
                    policy=replace(self._retry, attempts=tool.attempts),
                    deadline=loop.time() + self.longest_s(tool),
                    retryable=may_pass if tool.repeatable else _surely_without_effect,
                )
            )
        except TrellisError as error:
            return Ran(error=error.detail, uncertain=not tool.repeatable and _uncertain(error))

    def longest_s(self, tool: Tool) -> float:
        """Seconds that all attempts and the waits between them can take."""
        return tool.attempts * (tool.timeout_s + self._retry.wait_max_s + self._retry.wait_jitter_s)

    async def _once(self, tool: Tool, context: ToolContext, args: BaseModel) -> Any:
        task = asyncio.ensure_future(_call(tool, context, args))
        try:
            # Not asyncio.timeout: that waits for ever for a tool that swallows its cancellation.
            await asyncio.wait({task}, timeout=tool.timeout_s)
        finally:
            if not task.done():
                self._abandon(task)
        if not task.done():
            raise ToolTimeout(f"The tool '{tool.name}' did not end within {tool.timeout_s:g} s.")
        if task.cancelled():
            raise ToolCrashed(f"The tool '{tool.name}' cancelled itself.")
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, TrellisError):
            raise error
        # The text of a foreign exception may hold a secret or a person's data: it goes to the masked log alone.
        _log.warning("tool.crashed", tool=tool.name, exc_info=error)
        if isinstance(error, TimeoutError | ConnectionError):
            raise ToolTimeout(f"The tool '{tool.name}' lost its connection ({type(error).__name__}).") from error
        raise ToolCrashed(f"The tool '{tool.name}' failed ({type(error).__name__}).") from error

    def _abandon(self, task: "asyncio.Task[Any]") -> None:
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nobody complains of it


async def _call(tool: Tool, context: ToolContext, args: BaseModel) -> Any:
    # A coroutine of our own: what is no coroutine function at all fails in here, as any other error.
    return await tool.run(context, args)


def _checked(tool: Tool, result: Any) -> Any:
    """The result as JSON values. Raises BadResult."""
    try:
        if tool.returns is not None:
            result = tool.returns.model_validate(result, from_attributes=True)
        packed = orjson.dumps(result.model_dump(mode="json") if isinstance(result, BaseModel) else result)
    except (TypeError, ValueError, ValidationError):
        raise BadResult(f"The tool '{tool.name}' gave back what does not fit its schema.") from None
    if len(packed) > MAX_RESULT_BYTES:
        raise BadResult(f"The tool '{tool.name}' gave back more than {MAX_RESULT_BYTES} bytes.")
    values = orjson.loads(packed)
    return _without_nul(values) if b"\\u0000" in packed else values


def _without_nul(value: Any) -> Any:
    """PostgreSQL stores no U+0000 in text, and a receipt must be storable."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


def _uncertain(error: TrellisError) -> bool:
    """Whether a write may have happened in spite of the error."""
    if isinstance(error, BreakerOpen):
        return False
    stated = getattr(error, "uncertain", None)
    return stated if isinstance(stated, bool) else error.status >= 500


def _surely_without_effect(error: Exception) -> bool:
    return isinstance(error, TrellisError) and may_pass(error) and not _uncertain(error)


def _speaks_against(error: BaseException) -> bool:
    return isinstance(error, ToolCrashed | BadResult) or (isinstance(error, Exception) and may_pass(error))
