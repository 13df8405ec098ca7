"""One provider, asked for one reply: its breaker, its share of the time, its attempts, and what is measured."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from app.agent.billing import Bill
from app.agent.breaker import BreakerOpen, Breakers
from app.agent.model import (
    ModelClient,
    ModelError,
    ModelReply,
    ModelRequest,
    ModelStreamBroken,
    ModelTimeout,
    TextDelta,
    Usage,
    Written,
)
from app.agent.resilience import RetryPolicy, with_retries
from app.agent.retry_budget import RetryBudget, RetryBudgets
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

CALL_ERRORS: Final = (ModelError, BreakerOpen)
CallError = ModelError | BreakerOpen
Result = TypeVar("Result")
# Providers that answer so will do it again: a wrong key, a model that is gone.
_MISCONFIGURED: Final = frozenset({401, 403, 404})


@dataclass(frozen=True, slots=True)
class Ask:
    """One provider asked for one request.

    `first_by` and `until` are of the event loop's clock: when the answer, or its first piece, has to be there,
    and when a streamed answer has to be whole. `errors` gathers every error.
    """

    client: ModelClient
    request: ModelRequest
    route: str
    first_by: float
    until: float
    bill: Bill
    errors: list[CallError]


@dataclass(frozen=True, slots=True)
class Begun:
    """A streamed answer whose first item is there; `rest` yields the others and ends with the reply. Close it."""

    first: TextDelta | ModelReply
    rest: AsyncGenerator[TextDelta | ModelReply, None]


@dataclass(slots=True)
class _Call:
    span: trace.Span
    written: Written = field(default_factory=Written)
    usage: Usage | None = None

    def ended(self, reply: ModelReply) -> None:
        self.usage = reply.usage
        self.span.set_attribute(names.ANSWERED_BY, reply.model)
        self.span.set_attribute(names.FINISH_REASONS, (reply.finish_reason,))

    def billed(self, usage: Usage, cost_micros: int) -> None:
        self.span.set_attribute(names.INPUT_TOKENS, usage.input_tokens)
        self.span.set_attribute(names.OUTPUT_TOKENS, usage.output_tokens)
        self.span.set_attribute(names.CACHED_TOKENS, usage.cached_tokens)
        self.span.set_attribute(names.COST_USD, cost_micros / 1_000_000)


class ModelCaller:
    """Calls any client of any route; one call takes at most `call_timeout_s` seconds, whatever time there is."""

    def __init__(self, breakers: Breakers, metrics: Metrics, retry: RetryPolicy, call_timeout_s: float) -> None:
        self._breakers = breakers
        self._metrics = metrics
        self._retry = retry
        self._budgets = RetryBudgets()
        self._call_timeout_s = call_timeout_s

    async def ask(self, ask: Ask) -> ModelReply:
        """The reply, or the last error."""
        return await self._tried(ask, lambda: self._attempt(ask))

    async def begin(self, ask: Ask) -> Begun:
        """A streamed reply from its first item on, or the last error before it."""

        async def attempt() -> Begun:
            items = self._streamed(ask)
            return Begun(await anext(items), items)

        return await self._tried(ask, attempt)

    async def _tried(self, ask: Ask, call: Callable[[], Awaitable[Result]]) -> Result:
        budget = self._budgets.get(ask.client.provider, ask.client.model)

        async def attempt() -> Result:
            try:
                result = await call()
            except CALL_ERRORS as error:
                ask.errors.append(error)
                raise
            budget.answered()
            return result

        return await with_retries(
            attempt,
            policy=self._retry,
            deadline=ask.first_by,
            retryable=_retryable,
            allowed=lambda: self._may_repeat(ask, budget),
        )

    def _may_repeat(self, ask: Ask, budget: RetryBudget) -> bool:
        may = budget.take()
        self._metrics.model_retries.labels(ask.client.provider, "made" if may else "withheld").inc()
        return may

    async def _attempt(self, ask: Ask) -> ModelReply:
        with self._observed(ask) as call, spans.inside(call.span):
            reply = await _in_time(ask, self._limit(ask.first_by))
            call.ended(reply)
        return reply

    async def _streamed(self, ask: Ask) -> AsyncGenerator[TextDelta | ModelReply, None]:
        started = asyncio.get_running_loop().time()
        with self._observed(ask) as call:
            items = ask.client.stream(ask.request, timeout_s=self._limit(ask.until) - started)
            async with aclosing(items):
                with spans.inside(call.span):
                    item = await _first(ask, items, self._limit(ask.first_by))
                if isinstance(item, TextDelta):
                    waited = asyncio.get_running_loop().time() - started
                    self._metrics.model_first_token_seconds.labels(ask.client.provider, ask.route).observe(waited)
                    call.span.set_attributes({names.STREAMED: True, names.FIRST_CHUNK_S: waited})
                try:
                    while isinstance(item, TextDelta):
                        call.written.add(item.text)
                        yield item
                        item = await anext(items)
                except ModelError:
                    raise
                except Exception as error:
                    raise _broken(ask, call.written, error) from error
            call.ended(item)
        yield item

    def _limit(self, until: float) -> float:
        return min(until, asyncio.get_running_loop().time() + self._call_timeout_s)

    @contextmanager
    def _observed(self, ask: Ask) -> Iterator[_Call]:
        """A call with its breaker, its span, its time, and, however it ends, its place on the bill."""
        provider, loop = ask.client.provider, asyncio.get_running_loop()
        attributes = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider,
            names.MODEL: ask.client.model,
            names.ROUTE: ask.route,
        }
        outcome = "cancelled"
        with (
            self._breakers.get(f"model:{provider}", ask.client.model).guard(_speaks_against),
            spans.open_span(names.named(names.CHAT, ask.client.model), attributes, SpanKind.CLIENT) as span,
        ):
            call, started = _Call(span), loop.time()
            try:
                yield call
                outcome = "ok"
            except ModelError as error:
                outcome = _outcome(error)
                call.usage = error.usage if error.usage.total else None
                raise
            except (asyncio.CancelledError, GeneratorExit):
                # The provider has the input, and counts what it wrote until it saw that nobody listens.
                call.usage = call.written.usage(ask.request)
                raise
            finally:
                seconds = loop.time() - started
                self._metrics.model_call_duration_seconds.labels(provider, ask.route, outcome).observe(seconds)
                if call.usage is not None:
                    call.billed(call.usage, ask.bill.add(ask.client, call.usage))


async def _in_time(ask: Ask, until: float) -> ModelReply:
    left = until - asyncio.get_running_loop().time()
    return await _sound(ask, ask.client.complete(ask.request, timeout_s=left), until, left)


async def _first(ask: Ask, items: AsyncGenerator[TextDelta | ModelReply, None], until: float) -> TextDelta | ModelReply:
    return await _sound(ask, anext(items), until, until - asyncio.get_running_loop().time())


async def _sound(ask: Ask, answer: Awaitable[Result], until: float, left: float) -> Result:
    """What a client answers; whatever it does instead, and a time that it does not keep, is a ModelError."""
    try:
        async with asyncio.timeout_at(until):
            return await answer
    except ModelError:
        raise
    except TimeoutError:
        raise ModelTimeout(ask.client.provider, left) from None
    except Exception as error:
        raise ModelError(
            f"The client of the provider '{ask.client.provider}' failed ({type(error).__name__}).", retryable=False
        ) from error


def _broken(ask: Ask, written: Written, error: Exception) -> ModelStreamBroken:
    return ModelStreamBroken(
        f"The client of the provider '{ask.client.provider}' broke off ({type(error).__name__}).",
        retryable=False,
        usage=written.usage(ask.request),
    )


def _retryable(error: Exception) -> bool:
    return isinstance(error, ModelError) and error.retryable


def _speaks_against(error: BaseException) -> bool:
    return isinstance(error, ModelError) and (error.retryable or error.upstream_status in _MISCONFIGURED)


def _outcome(error: ModelError) -> str:
    if isinstance(error, ModelTimeout):
        return "timeout"
    return "rate_limited" if error.upstream_status == 429 else "error"
