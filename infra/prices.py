"""What things cost and what machines are: `prices.yaml`, read strictly."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from infra.errors import InfraError

FILE: Final = Path(__file__).parent / "prices.yaml"
HOURS: Final = 730
"""Of a month, as AWS reckons."""
_EVERYWHERE: Final = "everywhere"


@dataclass(frozen=True, slots=True)
class Price:
    """`usd` for one `unit`. `estimate`: not read in a list."""

    usd: float
    unit: str
    source: str
    estimate: bool = False


@dataclass(frozen=True, slots=True)
class Instance:
    """A machine as it is sold. `pods`: the most that its network has addresses for."""

    vcpu: int
    memory_gib: float
    arch: str
    gpus: int
    pods: int


@dataclass(frozen=True, slots=True)
class Lead:
    """What one lead, with the conversation that follows, brings about on average. MB are a millionth of a TB."""

    model_input_tokens: float
    model_output_tokens: float
    out_mb: float
    nat_mb: float
    zones_mb: float
    regions_mb: float
    stored_mb: float
    logs_mb: float
    database_requests: float


@dataclass(frozen=True, slots=True)
class Take:
    """Thousandths of a core, and MiB."""

    cpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What no plan says; `prices.yaml` has a sentence on each."""

    scale: float
    spot_share: float
    node_overhead: Take
    chart: Take
    node_nat_gb: float
    lead: Lead
    hosted_share: float
    balancer_units: float
    months_kept: float
    backup_share: float
    image_gb: float


@dataclass(frozen=True, slots=True)
class Prices:
    dated: str
    sources: Mapping[str, str]
    instances: Mapping[str, Instance]
    assumptions: Assumptions
    items: Mapping[str, Mapping[str, Price]]

    def of(self, item: str, region: str) -> Price:
        """Raises InfraError where the table has none: a price is never guessed."""
        by_region = self.items.get(item, {})
        found = by_region.get(region) or by_region.get(_EVERYWHERE)
        if found is None:
            raise InfraError(
                f"infra/prices.yaml has no price of '{item}' in {region}: add it there, and where it was read."
            )
        return found

    def instance(self, name: str) -> Instance:
        """Raises InfraError for a type that is not described."""
        found = self.instances.get(name)
        if found is None:
            raise InfraError(
                f"The instance type '{name}' is not in infra/prices.yaml: there are {', '.join(self.instances)}."
            )
        return found

    def offered(self, region: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of the types that the region sells.

        Raises InfraError where it sells none of them, or one is not described at all.
        """
        found = tuple(name for name in names if self.instance(name) and region in self.items.get(_item(name), {}))
        if names and not found:
            raise InfraError(
                f"The region {region} does not offer {' or '.join(names)}: take another region, or name in "
                "infra/phases.py a type that infra/prices.yaml has a price of there."
            )
        return found


def _item(instance: str) -> str:
    return f"instance/{instance}"


def load_prices(file: Path = FILE) -> Prices:
    """Raises InfraError for a table that is not one: an unknown key, a price of no source."""
    try:
        return _prices(yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506 - safe loaders both
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InfraError(f"{file.name} cannot be used: {str(error).splitlines()[0]}.") from None


def _prices(found: Mapping[str, Any]) -> Prices:
    sources = dict(found["sources"])
    items = {item: _item_prices(item, dict(given), sources) for item, given in found["prices"].items()}
    instances = {name: Instance(**given) for name, given in found["instances"].items()}
    return Prices(str(found["dated"]), sources, instances, _assumptions(dict(found["assumptions"])), items)


def _item_prices(item: str, given: dict[str, Any], sources: Mapping[str, str]) -> Mapping[str, Price]:
    unit = given.pop("unit")
    prices = {region: Price(unit=unit, **price) for region, price in given.items()}
    for region, price in prices.items():
        if price.source not in sources:
            raise ValueError(f"'{item}' in {region} names the source '{price.source}', which is not among its sources")
        if price.usd <= 0:
            raise ValueError(f"'{item}' in {region} costs {price.usd}")
    return prices


def _assumptions(given: dict[str, Any]) -> Assumptions:
    nested = {"node_overhead": Take, "chart": Take, "lead": Lead}
    assert nested.keys() <= {field.name for field in fields(Assumptions)}
    return Assumptions(**{key: nested[key](**value) if key in nested else value for key, value in given.items()})
