from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.model import Usage
from app.agent.prices import PRICES_FILE, ModelPrice, Prices
from app.agent.providers import Endpoint, load_prices
from app.errors import ConfigError

TODAY = date(2026, 3, 2)


def test_a_known_model_costs_what_the_list_says_rounded_up_to_a_micro_dollar() -> None:
    prices = Prices.load()
    assert prices.cost_micros("openai", "gpt-4o-mini", Usage(1_000_000, 0), TODAY) == 150_000
    assert prices.cost_micros("openai", "gpt-4o-mini", Usage(1000, 100, 400), TODAY) == 90 + 30 + 60
    assert prices.cost_micros("openai", "gpt-4o-mini", Usage(1, 0), TODAY) == 1
    assert prices.cost_micros("openai", "gpt-4o-mini-2024-07-18", Usage(100, 0), TODAY) == 15


@pytest.mark.parametrize(("cached", "cost"), [(0.5, 600 * 2 + 400 * 0.5), (None, 1000 * 2)])
def test_prices_of_settings_hold_for_the_first_endpoint(cached: float | None, cost: float) -> None:
    endpoint = Endpoint("https://models.example/v1", None, "big", "bigger")
    prices = load_prices([endpoint], 2.0, 3.0, cached)
    for model in ("big", "bigger"):
        assert prices.cost_micros("models.example", model, Usage(1000, 100, 400), TODAY) == cost + 300
    with pytest.raises(ConfigError):
        load_prices([endpoint]).require("models.example", "big")


@pytest.mark.parametrize("provider", ["offline", "ollama", "vllm"])
def test_local_models_cost_nothing(provider: str) -> None:
    assert Prices.load().cost_micros(provider, "anything", Usage(10**9, 10**9), TODAY) == 0


@pytest.mark.parametrize("model", ["gpt-9", "gpt-4o-mini-turbo"])
def test_an_unknown_model_is_an_error_that_names_the_file_and_the_key(model: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Prices.load().require("openai", model)
    assert str(PRICES_FILE) in refused.value.detail
    assert f"providers.openai.models.{model}" in refused.value.detail
    assert "TRELLIS_MODEL_INPUT_USD_PER_MILLION" in refused.value.detail


def test_an_unknown_provider_is_an_error_too() -> None:
    with pytest.raises(ConfigError, match=r"providers\.acme\.models\.m"):
        Prices.load().require("acme", "m")


def test_a_price_by_setting_comes_first() -> None:
    price = ModelPrice(input=Decimal("3"), output=Decimal("5"))
    prices = Prices.load(overrides={("acme", "m"): price, ("openai", "gpt-4o-mini"): price})
    prices.require("acme", "m")
    assert prices.cost_micros("acme", "m", Usage(10, 10, 10), TODAY) == 80
    assert prices.cost_micros("openai", "gpt-4o-mini", Usage(10, 0), TODAY) == 30


LIST = """
currency: USD
per_tokens: 1000000
providers:
  acme:
    source: a page
    models:
      m:
        - { from: 2026-02-01, input: 2, output: 4 }
        - { from: 2026-01-01, input: 1, output: 3 }
"""


def load(tmp_path: Path, text: str) -> Prices:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return Prices.load(path)


@pytest.mark.parametrize(
    ("on", "cost"), [("2025-12-31", 10), ("2026-01-31", 10), ("2026-02-01", 20), ("2030-01-01", 20)]
)
def test_the_entry_of_the_day_holds(tmp_path: Path, on: str, cost: int) -> None:
    assert load(tmp_path, LIST).cost_micros("acme", "m", Usage(10, 0), date.fromisoformat(on)) == cost


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("USD", "EUR", "currency"),
        ("    source: a page\n", "", "source"),
        ("input: 2", "input: -2", "input"),
        ("output: 4", "output: 4, outptu: 3", "outptu"),
        ("providers:", "providers: [", "cannot be read"),
    ],
)
def test_a_wrong_list_is_an_error_that_says_where(tmp_path: Path, old: str, new: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(tmp_path, LIST.replace(old, new))


@given(
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.integers(0, 10**7),
    st.decimals(0, 100, places=4),
    st.decimals(0, 100, places=4),
)
def test_the_cost_is_exact_and_never_rounded_down(
    tokens_in: int, cached: int, tokens_out: int, price_in: Decimal, price_out: Decimal
) -> None:
    price = ModelPrice(input=price_in, output=price_out)
    exact = tokens_in * price_in + tokens_out * price_out
    assert 0 <= price.micros(Usage(tokens_in, tokens_out, cached)) - exact < 1
