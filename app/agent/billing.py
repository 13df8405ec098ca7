"""What one routed request costs: every call that it took, priced and counted as the call ends."""

from datetime import date

from app.agent.model import ModelClient, Usage
from app.agent.prices import Prices
from app.telemetry.metrics import Metrics


class Bill:
    """The calls of one request of a pack together. `tokens` and `cost_micros` are what its budget is settled with."""

    __slots__ = ("_day", "_metrics", "_pack", "_prices", "cost_micros", "tokens")

    def __init__(self, prices: Prices, metrics: Metrics, day: date, pack: str) -> None:
        self._prices = prices
        self._metrics = metrics
        self._day = day
        self._pack = pack
        self.tokens = 0
        self.cost_micros = 0

    def add(self, client: ModelClient, usage: Usage) -> int:
        """Takes one call's tokens down; its cost in micro-USD."""
        cost = self._prices.cost_micros(client.provider, client.model, usage, self._day)
        metrics, provider = self._metrics, client.provider
        for direction, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            metrics.model_tokens.labels(provider, direction).inc(tokens)
            metrics.model_call_tokens.labels(provider, direction).observe(tokens)
        metrics.model_tokens.labels(provider, "cached").inc(usage.cached_tokens)
        metrics.model_cost_usd.labels(provider).inc(cost / 1_000_000)
        metrics.run_cost_usd.labels(self._pack).inc(cost / 1_000_000)
        self.tokens += usage.total
        self.cost_micros += cost
        return cost
