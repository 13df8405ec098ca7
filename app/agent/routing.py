"""From a request to an answer: budget, answer cache, then the providers of a route in order, inside a deadline."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from app.agent.answers import RoutedReply, answer_key, dump_answer, load_answer
from app.agent.breaker import Breakers
from app.agent.budgets import NO_CAPS, Budgets, Caps
from app.agent.cache import Cache, SingleFlight
from app.agent.calling import CALL_ERRORS, CallError, ModelCaller
from app.agent.model import (
    ModelClient,
    ModelError,
    ModelReply,
    ModelRequest,
    Usage,
    estimate_input_tokens,
)
from app.agent.offline import OFFLINE
from app.agent.prices import Prices
from app.agent.resilience import RetryPolicy, retry_after
from app.clock import Clock
from app.errors import ConfigError, TrellisError, Unavailable
from app.principal import Principal
from app.telemetry.metrics import Metrics

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
        call_timeout_s: of one call to one provider, also where the request has more time.

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
        call_timeout_s: float = 30.0,
    ) -> None:
        self._routes = {route.name: route for route in routes}
        for route in self._routes.values():
            if not route.providers:
                raise ConfigError(f"The model route '{route.name}' has no provider.")
            for client in route.providers:
                prices.require(client.provider, client.model)
        self._prices = prices
        self._cache = cache
        self._budgets = budgets
        self._metrics = metrics
        self._clock = clock
        self._caller = ModelCaller(breakers, metrics, retry, call_timeout_s)
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
            if not routed.stand_in and routed.reply.finish_reason in _WHOLE:
                await self._cache.set(key, dump_answer(routed), self._cache_ttl_s)
            return routed

        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            try:
                async with asyncio.timeout_at(deadline) as limit:
                    routed, shared = await self._flights.run(key, call)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise DeadlineExceeded(_TOO_LATE) from None
            except DeadlineExceeded:
                # The call that was shared had less time than this one has.
                if loop.time() + _NO_TIME_S < deadline:
                    continue
                raise
            self._count_cache("shared" if shared else "miss")
            if not shared:
                return routed
            return replace(routed, cost_micros=0, attempts=0, cached=True, model_s=loop.time() - started)

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
        started = loop.time()
        errors: list[CallError] = []
        for index, client in enumerate(route.providers):
            left = deadline - loop.time()
            if left < _NO_TIME_S:
                break
            if index:
                self._metrics.model_fallbacks.labels(route.name).inc()
            # An equal part of the time for each that is left, so that a slow one leaves some to its stand-in.
            until = loop.time() + left / (len(route.providers) - index)
            try:
                reply = await self._caller.ask(client, request, route.name, until, errors)
            except CALL_ERRORS:
                continue
            failed = sum(isinstance(error, ModelError) for error in errors)
            cost_micros = self._count_reply(reply, client)
            return RoutedReply(
                reply,
                client.provider,
                route.name,
                cost_micros,
                attempts=failed + 1,
                cached=False,
                model_s=loop.time() - started,
                stand_in=index > 0,
            )
        if loop.time() + _NO_TIME_S >= deadline:
            raise DeadlineExceeded(_TOO_LATE) from (errors[-1] if errors else None)
        raise ModelUnavailable(
            f"No provider of the model route '{route.name}' answered: {' '.join(error.detail for error in errors)}",
            retry_after=max((retry_after(error) or 1.0 for error in errors), default=1.0),
        ) from errors[-1]

    def _count_reply(self, reply: ModelReply, client: ModelClient) -> int:
        """Its cost in micro-USD."""
        cost = self._prices.cost_micros(client.provider, client.model, reply.usage, self._clock().date())
        tokens = self._metrics.model_tokens
        tokens.labels(client.provider, "input").inc(reply.usage.input_tokens)
        tokens.labels(client.provider, "output").inc(reply.usage.output_tokens)
        tokens.labels(client.provider, "cached").inc(reply.usage.cached_tokens)
        self._metrics.model_cost_usd.labels(client.provider).inc(cost / 1_000_000)
        return cost

    def _dearest(self, route: Route, usage: Usage) -> int:
        today = self._clock().date()
        return max(self._prices.cost_micros(c.provider, c.model, usage, today) for c in route.providers)

    def _count_cache(self, result: str) -> None:
        self._metrics.answer_cache_requests.labels(result).inc()
