"""From the settings' endpoints to model routes: OpenAI-compatible where one is given, else the offline model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import aiohttp

from app.agent.offline import OfflineModel, OfflineRule
from app.agent.openai_compatible import STALL_S, OpenAiCompatible
from app.agent.prices import ModelPrice, Prices
from app.agent.routing import Route
from app.errors import ConfigError

CHEAP, STRONG = "cheap", "strong"
DEFAULT_MODEL = "gpt-4o-mini"
_PORTS = {11434: "ollama", 8000: "vllm"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of the settings; `name` and `strong_name` are models, the second for the strong route."""

    url: str
    key: str | None
    name: str | None
    strong_name: str | None = None

    @property
    def provider(self) -> str:
        """What prices, metrics and errors call it: `openai` is known by its host, what runs on
        this machine is `ollama`, `vllm` (by port) or `local`, and free."""
        host, port = urlsplit(self.url).hostname or "", urlsplit(self.url).port
        if host == "api.openai.com":
            return "openai"
        return _PORTS.get(port or 0, "local") if host in _LOOPBACK else host

    def model(self, route: str) -> str:
        """Raises ConfigError where the endpoint's model is not named and has no default."""
        name = (self.strong_name if route == STRONG else None) or self.name
        if name is None and self.provider == "openai":
            return DEFAULT_MODEL
        if name is None:
            raise ConfigError(
                f"No model is named for {self.url}: set TRELLIS_MODEL_NAME, or TRELLIS_MODEL_FALLBACK_NAME for the "
                "fallback, to one that it serves."
            )
        return name


def build_routes(
    endpoints: Sequence[Endpoint],
    session: aiohttp.ClientSession,
    offline: Mapping[str, OfflineRule],
    *,
    stall_s: float = STALL_S,
    marks_prefix: bool = False,
) -> tuple[Route, ...]:
    """The cheap and the strong route over the endpoints in their order; the offline model where there is none."""
    if not endpoints:
        client = OfflineModel(offline)
        return Route(CHEAP, (client,)), Route(STRONG, (client,))

    def client_of(endpoint: Endpoint, route: str) -> OpenAiCompatible:
        return OpenAiCompatible(
            session,
            endpoint.url,
            endpoint.model(route),
            provider=endpoint.provider,
            api_key=endpoint.key,
            schema_with_tools=endpoint.provider == "openai",
            marks_prefix=marks_prefix,
            stall_s=stall_s,
        )

    return tuple(Route(name, tuple(client_of(each, name) for each in endpoints)) for name in (CHEAP, STRONG))


def load_prices(
    endpoints: Sequence[Endpoint],
    input_usd: float | None = None,
    output_usd: float | None = None,
    cached_input_usd: float | None = None,
) -> Prices:
    """The price list; prices that are given (USD per million tokens, input and output) are the first endpoint's."""
    if input_usd is None or output_usd is None or not endpoints:
        return Prices.load()
    cached = None if cached_input_usd is None else Decimal(str(cached_input_usd))
    price = ModelPrice(input=Decimal(str(input_usd)), output=Decimal(str(output_usd)), cached_input=cached)
    first = endpoints[0]
    return Prices.load(overrides={(first.provider, first.model(route)): price for route in (CHEAP, STRONG)})
