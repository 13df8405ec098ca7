"""A line of a bill, and what every line is reckoned with."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from infra.phases import Phase
from infra.prices import HOURS, Price, Prices

_HOURLY: Final = ("hour", "zone-hour")


class Part(StrEnum):
    COMPUTE = "compute"
    GPU = "GPU"
    DATABASE = "database"
    CACHE = "cache"
    VECTORS = "vectors"
    NETWORK = "network"
    TELEMETRY = "telemetry storage"
    MODELS = "models API"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Line:
    """`part`: for the table (compute, database, ...). `estimate`: the price or the amount is not a list's."""

    part: str
    what: str
    usd_month: float
    estimate: bool


@dataclass(frozen=True, slots=True)
class Reckoner:
    prices: Prices
    region: str
    phase: Phase

    def price(self, item: str) -> Price:
        """Raises InfraError where the table has none."""
        return self.prices.of(item, self.region)

    def line(self, part: Part, what: str, item: str, amount: float, *, estimate: bool = False) -> Line:
        """`amount`: how many at a time for what is paid by the hour, how many a month for the rest. `estimate`: the
        amount is one."""
        price = self.price(item)
        hours = HOURS if price.unit in _HOURLY else 1
        return Line(part, what, price.usd * amount * hours, estimate or price.estimate)

    def of_leads(self, mb: float) -> float:
        """GB a month, of so many MB for each of the region's leads."""
        return self.phase.load.leads_per_month * mb / 1000
