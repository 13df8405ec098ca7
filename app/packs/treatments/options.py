"""The options of a result, as they are kept, read back; and money in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.storage.base import MICROS


@dataclass(frozen=True, slots=True)
class Option:
    """A treatment that a customer may have, with what it is expected to bring and what it costs (micro-USD)."""

    treatment: str
    value_micros: int
    cost_micros: int

    @property
    def net_micros(self) -> int:
        return self.value_micros - self.cost_micros


def options_of(kept: Iterable[Mapping[str, Any]]) -> list[Option]:
    """Of `Result.options`, best first as they are there."""
    return [Option(one["treatment"], int(one["value_micros"]), int(one["cost_micros"])) for one in kept]


def best_net(options: Iterable[Option]) -> int:
    """0 where there is none."""
    return max((option.net_micros for option in options), default=0)


def usd(micros: int) -> str:
    """`3.20 USD`."""
    return f"{micros / MICROS:.2f} USD"
