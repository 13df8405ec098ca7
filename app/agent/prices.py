"""What tokens cost: a dated price list, in whole micro-USD.

USD per million tokens is the same number as micro-USD per token.
"""

import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.agent.model import Usage
from app.errors import ConfigError

PRICES_FILE = Path(__file__).with_name("prices.yaml")
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
# Sums are whole numbers of this part of a micro-USD, so that no cent is made or lost in rounding.
_PARTS = 1_000_000


class ModelPrice(BaseModel):
    """USD per million tokens. Cached input costs what input costs where no price of its own is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: date = Field(date.min, alias="from")
    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)
    cached_input: Decimal | None = Field(None, ge=0)
    estimate: bool = False

    def micros(self, usage: Usage) -> int:
        """The cost of the tokens in micro-USD, rounded up."""
        cached = min(usage.cached_tokens, usage.input_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        parts = (
            (usage.input_tokens - cached) * int(self.input * _PARTS)
            + cached * int(cached_price * _PARTS)
            + usage.output_tokens * int(self.output * _PARTS)
        )
        return -(-parts // _PARTS)


class _Provider(BaseModel):
    model_config = ConfigDict(extra="forbid")

    local: bool = False
    source: str = ""
    models: dict[str, list[ModelPrice]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if not self.local and not self.source:
            raise ValueError("state the source of the prices")
        for model, entries in self.models.items():
            if not entries:
                raise ValueError(f"'{model}' has no entry")
            entries.sort(key=lambda entry: entry.since)
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    currency: str = Field(pattern="^USD$")
    per_tokens: int = Field(ge=1_000_000, le=1_000_000)
    providers: dict[str, _Provider]


class Prices:
    """The price of any (provider, model) that is on the list or was given by a setting."""

    def __init__(self, file: _File, path: Path, overrides: Mapping[tuple[str, str], ModelPrice] | None = None) -> None:
        self._providers = file.providers
        self._path = path
        self._overrides = dict(overrides or {})

    @classmethod
    def load(cls, path: Path = PRICES_FILE, overrides: Mapping[tuple[str, str], ModelPrice] | None = None) -> "Prices":
        """Reads the list. `overrides` are prices by (provider, model) that settings give; they come first.

        Raises ConfigError naming the file and what is wrong with it.
        """
        try:
            content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(_File.model_validate(content), path, overrides)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"The price list {path} cannot be read: {error}.") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"The price list {path} is wrong at {where}: {first['msg']}.") from None

    def require(self, provider: str, model: str) -> None:
        """Raises ConfigError, naming the file and the key, where the model has no price."""
        self.price(provider, model, date.max)

    def price(self, provider: str, model: str, on: date) -> ModelPrice | None:
        """The price that holds on a day (the oldest one for any day before it); None where it is free.

        A dated snapshot (`gpt-4o-mini-2024-07-18`) has the price of its model where it has none of its own.
        Raises ConfigError where there is none.
        """
        override = self._overrides.get((provider, model))
        if override is not None:
            return override
        listed = self._providers.get(provider)
        if listed is not None and listed.local:
            return None
        entries = listed and (listed.models.get(model) or listed.models.get(_SNAPSHOT.sub("", model)))
        if not entries:
            raise ConfigError(
                f"{self._path} has no price for the key 'providers.{provider}.models.{model}': add it, or set "
                f"TRELLIS_MODEL_INPUT_USD_PER_MILLION and TRELLIS_MODEL_OUTPUT_USD_PER_MILLION."
            )
        past = [entry for entry in entries if entry.since <= on]
        return past[-1] if past else entries[0]

    def cost_micros(self, provider: str, model: str, usage: Usage, on: date) -> int:
        """What the tokens cost on a day, in micro-USD."""
        price = self.price(provider, model, on)
        return 0 if price is None else price.micros(usage)
