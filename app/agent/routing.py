"""From a request to an answer: budget, answer cache, then the providers of a route in order, inside a deadline."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from app.agent.answers import RoutedReply, answer_key, dump_answer, load_answer
from app.agent.breaker import BreakerOpen, Breakers
from app.agent.budgets import NO_CAPS, Budgets, Caps
from app.agent.cache import Cache, SingleFlight
from app.agent.model import (
    ModelClient,
    ModelError,
    ModelReply,
    ModelRequest,
    ModelTimeout,
    Usage,
    estimate_input_tokens,
)
from app.agent.offline import OFFLINE
from app.agent.prices import Prices
from app.agent.resilience import RetryPolicy, retry_after, with_retries
from app.clock import Clock
from app.errors import ConfigError, TrellisError, Unavailable
from app.principal import Principal
from app.telemetry import spans
from app.telemetry.metrics import Metrics

# Providers that answer so will do it again: a wrong key, a model that is gone.
_MISCONFIGURED: Final = frozenset({401, 403, 404})
_WHOLE: Final = frozenset({"stop", "tool_calls"})
_NO_TIME_S: Final = 0.01
_TOO_LATE: Final = "No model answered within the request's time: ask again, or allow more time."


class DeadlineExceeded(TrellisError):
    status, code, title = 504, "deadline-exceeded", "There was not enough time"


class ModelUnavailable(Unavailable):
    code, title = "model-unavailable", "No model answers at the moment"


@dataclass(frozen=True, slots=True)
class Route:
    """Providers in the order in which they are tried."""

    name: str
    providers: tuple[ModelClient, ...]

    @property
    def identity(self) -> list[str]:
        return [self.name, *(f"{client.provider}/{client.model}" for client in self.providers)]

    @property
    def reads_facts(self) -> bool:
        """Whether an answer may rest on `ModelRequest.facts` and not on the messages alone."""
        return any(client.provider == OFFLINE for client in self.providers)


class ModelRouter:
    """Completes requests by route name.

    Args:
        cache_ttl_s: how long an answer may be given again.

    Raises ConfigError at construction for a route without providers or a model without a price.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        breakers: Breakers,
        prices: Prices,
        cache: Cache,
        budgets: Budgets,
        *,
        metrics: Metrics,
        clock: Clock,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        cache_ttl_s: float = 3600.0,
    ) -> None:
        self._routes = {route.name: route for route in routes}
        for route in self._routes.values():
            if not route.providers:
                raise ConfigError(f"The model route '{route.name}' has no provider.")
            for client in route.providers:
                prices.require(client.provider, client.model)
        self._breakers = breakers
        self._prices = prices
        self._cache = cache
        self._budgets = budgets
        self._metrics = metrics
        self._clock = clock
        self._retry = retry
        self._cache_ttl_s = cache_ttl_s
        self._flights: SingleFlight[RoutedReply] = SingleFlight()

    async def complete(
        self,
        request: ModelRequest,
        route: str,
        principal: Principal,
        deadline: float,
        caps: Caps = NO_CAPS,
        *,
        use_cache: bool = True,
    ) -> RoutedReply:
        """One answer.

        Args:
            deadline: of the event loop's clock; providers are tried until then.
            caps: what the whole request may still use.
            use_cache: False for replays: asks the provider, and keeps nothing.

        Raises:
            BudgetExceeded: by the request's caps or the tenant's day.
            DeadlineExceeded: no provider answered in time.
            ModelUnavailable: every provider failed.
        """
        chosen = self._routes.get(route)
        if chosen is None:
            raise ConfigError(f"There is no model route '{route}': choose one of {', '.join(sorted(self._routes))}.")
        estimate = Usage(estimate_input_tokens(request), request.max_tokens)
        cost = self._dearest(chosen, estimate)
        self._budgets.check_request(caps, estimate.total, cost)
        if not use_cache or request.temperature > 0:
            self._count_cache("bypass")
            return await self._paid(request, chosen, principal, deadline, estimate, cost)
        key = answer_key(request, chosen.identity, principal.tenant_id, with_facts=chosen.reads_facts)
        kept = await self._cache.get(key)
        if kept is not None:
            self._count_cache("hit")
            return load_answer(kept, route)
        return await self._together(key, request, chosen, principal, deadline, estimate, cost)

    async def _together(
        self,
        key: str,
        request: ModelRequest,
        route: Route,
        principal: Principal,
        deadline: float,
        estimate: Usage,
        cost: int,
    ) -> RoutedReply:
        async def call() -> RoutedReply:
            routed = await self._paid(request, route, principal, deadline, estimate, cost)
            # A stand-in's answer is not kept: the first choice is asked again as soon as it is back.
            if routed.provider == route.providers[0].provider and routed.reply.finish_reason in _WHOLE:
                await self._cache.set(key, dump_answer(routed), self._cache_ttl_s)
            return routed

        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    routed, shared = await self._flights.run(key, call)
            except TimeoutError:
                raise DeadlineExceeded(_TOO_LATE) from None
            except DeadlineExceeded:
                # The call that was shared had less time than this one has.
                if loop.time() + _NO_TIME_S < deadline:
                    continue
                raise
            self._count_cache("shared" if shared else "miss")
            return replace(routed, cost_micros=0, attempts=0, cached=True) if shared else routed

    async def _paid(
        self, request: ModelRequest, route: Route, principal: Principal, deadline: float, estimate: Usage, cost: int
    ) -> RoutedReply:
        reservation = await self._budgets.reserve(principal, estimate.total, cost)
        used, paid = 0, 0
        try:
            routed = await self._first_answer(request, route, deadline)
            used, paid = routed.reply.usage.total, routed.cost_micros
            return routed
        finally:
            self._budgets.settle(reservation, used, paid)

    async def _first_answer(self, request: ModelRequest, route: Route, deadline: float) -> RoutedReply:
        loop = asyncio.get_running_loop()
        errors: list[ModelError | BreakerOpen] = []
        for index, client in enumerate(route.providers):
            left = deadline - loop.time()
            if left < _NO_TIME_S:
                break
            if index:
                self._metrics.model_fallbacks.labels(route.name).inc()
            # An equal part of the time for each that is left, so that a slow one leaves some to its stand-in.
            until = loop.time() + left / (len(route.providers) - index)
            try:
                reply = await self._ask(client, request, route.name, until, errors)
            except (ModelError, BreakerOpen):
                continue
            failed = sum(isinstance(error, ModelError) for error in errors)
            return self._account(reply, client, route.name, failed + 1)
        if loop.time() + _NO_TIME_S >= deadline:
            raise DeadlineExceeded(_TOO_LATE) from (errors[-1] if errors else None)
        raise ModelUnavailable(
            f"No provider of the model route '{route.name}' answered: {' '.join(error.detail for error in errors)}",
            retry_after=max((retry_after(error) or 1.0 for error in errors), default=1.0),
        ) from errors[-1]

    async def _ask(
        self,
        client: ModelClient,
        request: ModelRequest,
        route: str,
        until: float,
        errors: list[ModelError | BreakerOpen],
    ) -> ModelReply:
        async def attempt() -> ModelReply:
            try:
                return await self._attempt(client, request, route, until)
            except (ModelError, BreakerOpen) as error:
                errors.append(error)
                raise

        return await with_retries(attempt, policy=self._retry, deadline=until, retryable=_retryable)

    async def _attempt(self, client: ModelClient, request: ModelRequest, route: str, until: float) -> ModelReply:
        loop = asyncio.get_running_loop()
        outcome = "cancelled"
        with (
            self._breakers.get(f"model:{client.provider}", client.model).guard(_speaks_against),
            spans.tracer().start_as_current_span(
                spans.MODEL_CALL,
                attributes={spans.PROVIDER: client.provider, spans.MODEL: client.model, spans.ROUTE: route},
            ) as span,
        ):
            started = loop.time()
            try:
                reply = await _in_time(client, request, until)
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

    def _account(self, reply: ModelReply, client: ModelClient, route: str, attempts: int) -> RoutedReply:
        cost = self._prices.cost_micros(client.provider, client.model, reply.usage, self._clock().date())
        tokens = self._metrics.model_tokens
        tokens.labels(client.provider, "input").inc(reply.usage.input_tokens)
        tokens.labels(client.provider, "output").inc(reply.usage.output_tokens)
        tokens.labels(client.provider, "cached").inc(reply.usage.cached_tokens)
        self._metrics.model_cost_usd.labels(client.provider).inc(cost / 1_000_000)
        return RoutedReply(reply, client.provider, route, cost, attempts, cached=False)

    def _dearest(self, route: Route, usage: Usage) -> int:
        today = self._clock().date()
        return max(self._prices.cost_micros(c.provider, c.model, usage, today) for c in route.providers)

    def _count_cache(self, result: str) -> None:
        self._metrics.answer_cache_requests.labels(result).inc()


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
