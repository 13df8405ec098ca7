"""From a request to an answer: budget, answer cache, then the providers of a route in order, inside a deadline."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from app.agent.answers import RoutedReply, answer_key, dump_answer, load_answer
from app.agent.billing import Bill
from app.agent.breaker import Breakers
from app.agent.budgets import NO_CAPS, Budgets, Caps, Reservation, Tally
from app.agent.calling import CALL_ERRORS, Ask, Begun, CallError, ModelCaller
from app.agent.model import (
    ModelClient,
    ModelError,
    ModelReply,
    ModelRequest,
    ModelStreamBroken,
    TextDelta,
    Usage,
    estimate_input_tokens,
)
from app.agent.offline import OFFLINE
from app.agent.prices import Prices
from app.agent.resilience import RetryPolicy, retry_after
from app.cache.base import person_tag, tenant_tag
from app.cache.flight import SingleFlight
from app.cache.tiered import TieredCache
from app.clock import Clock
from app.errors import ConfigError, TrellisError, Unavailable
from app.principal import Principal
from app.telemetry.metrics import MODEL_OUTCOMES, Metrics

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
        cache: TieredCache,
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
        self._show()

    def _show(self) -> None:
        """Puts the figures of every provider at 0 before its first call: a first failure is then an increase."""
        metrics = self._metrics
        for route in self._routes.values():
            if len(route.providers) > 1:
                metrics.model_fallbacks.labels(route.name)
            for client in route.providers:
                metrics.model_cost_usd.labels(client.provider)
                for outcome in MODEL_OUTCOMES:
                    metrics.model_call_duration_seconds.labels(client.provider, route.name, outcome)

    def identity(self, route: str) -> str:
        """The route with its models, in order: changes where another model may answer. Raises ConfigError."""
        return " ".join(self._route(route).identity)

    async def complete(
        self,
        request: ModelRequest,
        route: str,
        principal: Principal,
        deadline: float,
        caps: Caps = NO_CAPS,
        *,
        use_cache: bool = True,
        subject_id: str = "",
        tally: Tally | None = None,
    ) -> RoutedReply:
        """One answer.

        Args:
            deadline: of the event loop's clock; providers are tried until then.
            caps: what the whole request may still use.
            use_cache: False for replays: asks the provider, and keeps nothing.
            subject_id: whom or what it is about: what is kept of it goes with them (`person_tag`).
            tally: counts every call to a provider that this request makes, also where it raises.

        Raises:
            BudgetExceeded: by the request's caps or the tenant's day.
            DeadlineExceeded: no provider answered in time.
            ModelUnavailable: every provider failed.
        """
        chosen, estimate, cost = self._admitted(request, route, caps)
        cacheable = use_cache and request.temperature == 0
        if not (cacheable and self._cache.on(principal.tenant_id)):
            self._cache.count("off" if cacheable else "bypass")
            return await self._paid(request, chosen, principal, deadline, estimate, cost, tally)
        key = answer_key(request, chosen.identity, principal.tenant_id, with_facts=chosen.reads_facts)
        kept = await self._cache.find(key)
        if kept is not None:
            answer = load_answer(kept, route)
            self._cache.saved(answer.saved_micros)
            return answer
        return await self._together(key, request, chosen, principal, subject_id, deadline, estimate, cost, tally)

    async def _together(
        self,
        key: str,
        request: ModelRequest,
        route: Route,
        principal: Principal,
        subject_id: str,
        deadline: float,
        estimate: Usage,
        cost: int,
        tally: Tally | None,
    ) -> RoutedReply:
        async def call() -> RoutedReply:
            began = self._cache.mark()
            routed = await self._paid(request, route, principal, deadline, estimate, cost, tally)
            # A stand-in's answer is not kept: the first choice is asked again as soon as it is back.
            if not routed.stand_in and routed.reply.finish_reason in _WHOLE:
                people = {principal.user, subject_id} - {""}
                tags = (tenant_tag(principal.tenant_id), *(person_tag(principal.tenant_id, one) for one in people))
                await self._cache.set(
                    key, dump_answer(routed), self._cache_ttl_s, tags, tenant_id=principal.tenant_id, since=began
                )
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
            self._cache.count("shared" if shared else "miss")
            if not shared:
                return routed
            self._cache.saved(routed.cost_micros)
            return _shared(routed, loop.time() - started)

    async def _paid(
        self,
        request: ModelRequest,
        route: Route,
        principal: Principal,
        deadline: float,
        estimate: Usage,
        cost: int,
        tally: Tally | None,
    ) -> RoutedReply:
        reservation = await self._budgets.reserve(principal, estimate.total, cost)
        bill = self._bill(request.pack)
        started = asyncio.get_running_loop().time()
        errors: list[CallError] = []
        try:
            for ask in self._asks(request, route, deadline, bill, errors):
                try:
                    reply = await self._caller.ask(ask)
                except CALL_ERRORS:
                    continue
                return _routed(reply, ask, route, started)
            raise _nobody(route, deadline, errors)
        finally:
            self._settle(reservation, bill, tally)

    async def stream(
        self,
        request: ModelRequest,
        route: str,
        principal: Principal,
        deadline: float,
        caps: Caps = NO_CAPS,
        *,
        tally: Tally | None = None,
    ) -> AsyncGenerator[TextDelta | RoutedReply, None]:
        """One answer, piece by piece and whole at last; from no cache.

        The next provider is tried only before the first piece. The budget is settled before the last item, and
        also where the answer breaks off, the consumer closes the stream or is cancelled: what was written by
        then is estimated and paid for.

        Raises as `complete` does, and ModelStreamBroken where the provider broke off after the first piece.
        """
        chosen, estimate, cost = self._admitted(request, route, caps)
        reservation = await self._reserved(principal, estimate, cost, deadline)
        bill = self._bill(request.pack)
        started = asyncio.get_running_loop().time()
        try:
            ask, begun = await self._begun(request, chosen, deadline, bill)
            async with aclosing(begun.rest):
                item = begun.first
                while isinstance(item, TextDelta):
                    yield item
                    item = await anext(begun.rest)
        except ModelStreamBroken as error:
            if asyncio.get_running_loop().time() + _NO_TIME_S >= deadline:
                raise DeadlineExceeded(_TOO_LATE) from error
            raise
        finally:
            self._settle(reservation, bill, tally)
        yield _routed(item, ask, chosen, started)

    async def _begun(self, request: ModelRequest, route: Route, deadline: float, bill: Bill) -> tuple[Ask, Begun]:
        errors: list[CallError] = []
        for ask in self._asks(request, route, deadline, bill, errors):
            try:
                return ask, await self._caller.begin(ask)
            except CALL_ERRORS:
                continue
        raise _nobody(route, deadline, errors)

    async def _reserved(self, principal: Principal, estimate: Usage, cost: int, deadline: float) -> Reservation:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                return await self._budgets.reserve(principal, estimate.total, cost)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(_TOO_LATE) from None

    def _settle(self, reservation: Reservation, bill: Bill, tally: Tally | None) -> None:
        self._budgets.settle(reservation, bill.tokens, bill.cost_micros)
        if tally is not None:
            tally.tokens += bill.tokens
            tally.cost_micros += bill.cost_micros

    def _asks(
        self, request: ModelRequest, route: Route, deadline: float, bill: Bill, errors: list[CallError]
    ) -> Iterator[Ask]:
        """The providers in their order, for as long as there is time."""
        loop = asyncio.get_running_loop()
        for index, client in enumerate(route.providers):
            left = deadline - loop.time()
            if left < _NO_TIME_S:
                break
            if index:
                self._metrics.model_fallbacks.labels(route.name).inc()
            # An equal part of the time for each that is left, so that a slow one leaves some to its stand-in.
            until = loop.time() + left / (len(route.providers) - index)
            yield Ask(client, request, route.name, until, deadline, bill, errors)

    def _admitted(self, request: ModelRequest, route: str, caps: Caps) -> tuple[Route, Usage, int]:
        """The route, and what the request may take at most: tokens, and micro-USD."""
        chosen = self._route(route)
        estimate = Usage(estimate_input_tokens(request), request.max_tokens)
        cost = self._dearest(chosen, estimate)
        self._budgets.check_request(caps, estimate.total, cost)
        return chosen, estimate, cost

    def _route(self, name: str) -> Route:
        chosen = self._routes.get(name)
        if chosen is None:
            raise ConfigError(f"There is no model route '{name}': choose one of {', '.join(sorted(self._routes))}.")
        return chosen

    def _bill(self, pack: str) -> Bill:
        return Bill(self._prices, self._metrics, self._clock().date(), pack)

    def _dearest(self, route: Route, usage: Usage) -> int:
        today = self._clock().date()
        return max(self._prices.cost_micros(c.provider, c.model, usage, today) for c in route.providers)


def _routed(reply: ModelReply, ask: Ask, route: Route, started: float) -> RoutedReply:
    failed = sum(isinstance(error, ModelError) for error in ask.errors)
    return RoutedReply(
        reply,
        ask.client.provider,
        route.name,
        ask.bill.cost_micros,
        attempts=failed + 1,
        cached=False,
        model_s=asyncio.get_running_loop().time() - started,
        stand_in=ask.client is not route.providers[0],
    )


def _shared(paid: RoutedReply, waited_s: float) -> RoutedReply:
    """An answer that another request pays for."""
    return replace(paid, cost_micros=0, saved_micros=paid.cost_micros, attempts=0, cached=True, model_s=waited_s)


def _nobody(route: Route, deadline: float, errors: list[CallError]) -> TrellisError:
    """Why no provider of the route answered."""
    if asyncio.get_running_loop().time() + _NO_TIME_S >= deadline:
        late = DeadlineExceeded(_TOO_LATE)
        late.__cause__ = errors[-1] if errors else None
        return late
    down = ModelUnavailable(
        f"No provider of the model route '{route.name}' answered: {' '.join(error.detail for error in errors)}",
        retry_after=max((retry_after(error) or 1.0 for error in errors), default=1.0),
    )
    down.__cause__ = errors[-1]
    return down
