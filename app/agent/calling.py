"""One provider, asked for one reply: its breaker, its share of the time, its attempts, and what is measured."""

import asyncio
from typing import Final

from app.agent.breaker import BreakerOpen, Breakers
from app.agent.model import ModelClient, ModelError, ModelReply, ModelRequest, ModelTimeout
from app.agent.resilience import RetryPolicy, with_retries
from app.telemetry import spans
from app.telemetry.metrics import Metrics

CALL_ERRORS: Final = (ModelError, BreakerOpen)
CallError = ModelError | BreakerOpen
# Providers that answer so will do it again: a wrong key, a model that is gone.
_MISCONFIGURED: Final = frozenset({401, 403, 404})


class ModelCaller:
    """Calls any client of any route; one call takes at most `call_timeout_s` seconds, whatever time there is."""

    def __init__(self, breakers: Breakers, metrics: Metrics, retry: RetryPolicy, call_timeout_s: float) -> None:
        self._breakers = breakers
        self._metrics = metrics
        self._retry = retry
        self._call_timeout_s = call_timeout_s

    async def ask(
        self,
        client: ModelClient,
        request: ModelRequest,
        route: str,
        until: float,
        errors: list[CallError],
    ) -> ModelReply:
        """The reply, or the last error; every error is put into `errors`."""

        async def attempt() -> ModelReply:
            try:
                return await self._attempt(client, request, route, until)
            except CALL_ERRORS as error:
                errors.append(error)
                raise

        return await with_retries(attempt, policy=self._retry, deadline=until, retryable=_retryable)

    async def _attempt(self, client: ModelClient, request: ModelRequest, route: str, until: float) -> ModelReply:
        loop = asyncio.get_running_loop()
        outcome = "cancelled"
        with (
            self._breakers.get(f"model:{client.provider}", client.model).guard(_speaks_against),
            spans.span(
                spans.MODEL_CALL,
                {spans.PROVIDER: client.provider, spans.MODEL: client.model, spans.ROUTE: route},
            ) as span,
        ):
            started = loop.time()
            try:
                reply = await _in_time(client, request, min(until, started + self._call_timeout_s))
                outcome = "ok"
                span.set_attribute(spans.INPUT_TOKENS, reply.usage.input_tokens)
                span.set_attribute(spans.OUTPUT_TOKENS, reply.usage.output_tokens)
                return reply
            except ModelError as error:
                outcome = _outcome(error)
                raise
            finally:
                seconds = loop.time() - started
                self._metrics.model_call_duration_seconds.labels(client.provider, route, outcome).observe(seconds)


async def _in_time(client: ModelClient, request: ModelRequest, until: float) -> ModelReply:
    left = until - asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(until):
            return await client.complete(request, timeout_s=left)
    except ModelError:
        raise
    except TimeoutError:
        raise ModelTimeout(client.provider, left) from None
    except Exception as error:
        raise ModelError(
            f"The client of the provider '{client.provider}' failed ({type(error).__name__}).", retryable=False
        ) from error


def _retryable(error: Exception) -> bool:
    return isinstance(error, ModelError) and error.retryable


def _speaks_against(error: BaseException) -> bool:
    return isinstance(error, ModelError) and (error.retryable or error.upstream_status in _MISCONFIGURED)


def _outcome(error: ModelError) -> str:
    if isinstance(error, ModelTimeout):
        return "timeout"
    return "rate_limited" if error.upstream_status == 429 else "error"
