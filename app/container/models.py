"""Model routes over the endpoints of the settings, with prices and budgets."""

from collections.abc import Sequence

from app.agent.breaker import Breakers
from app.agent.budget_store import DailyCaps
from app.agent.budgets import Budgets
from app.agent.providers import CHEAP, Endpoint, build_routes, load_prices
from app.agent.routing import ModelRouter
from app.container.ground import Ground
from app.conversation.offline import offline_rules
from app.pack import Pack
from app.settings import Settings, revealed
from app.storage.base import micros


async def open_router(ground: Ground, breakers: Breakers, packs: Sequence[Pack]) -> tuple[ModelRouter, str]:
    """The router, and how its first model is called."""
    settings = ground.settings
    endpoints = _endpoints(settings)
    offline = {**offline_rules(), **{name: rule for pack in packs for name, rule in pack.offline().items()}}
    routes = build_routes(
        endpoints,
        ground.session,
        offline,
        stall_s=settings.model_stall_s,
        marks_prefix=settings.model_cache_control,
    )
    prices = load_prices(
        endpoints,
        settings.model_input_usd_per_million,
        settings.model_output_usd_per_million,
        settings.model_cached_input_usd_per_million,
    )
    caps = DailyCaps(settings.tenant_daily_tokens, micros(settings.tenant_daily_usd))
    budgets = Budgets(ground.db, ground.clock, lambda _principal: caps, ground.metrics)
    await budgets.start()
    ground.stack.push_async_callback(budgets.stop)
    router = ModelRouter(
        routes,
        breakers,
        prices,
        ground.caches.models,
        budgets,
        metrics=ground.metrics,
        clock=ground.clock,
        call_timeout_s=settings.model_timeout_s,
    )
    first = next(route for route in routes if route.name == CHEAP).providers[0]
    return router, first.model if not endpoints else f"{first.model} at {endpoints[0].url}"


def _endpoints(settings: Settings) -> list[Endpoint]:
    """The configured model endpoints, in the order in which they are asked."""
    endpoints = []
    if settings.model_url is not None:
        key = revealed(settings.model_key)
        endpoints.append(Endpoint(settings.model_url, key, settings.model_name, settings.model_strong_name))
    if settings.model_fallback_url is not None:
        key = revealed(settings.model_fallback_key)
        endpoints.append(Endpoint(settings.model_fallback_url, key, settings.model_fallback_name))
    return endpoints
