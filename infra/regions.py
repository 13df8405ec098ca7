"""The AWS regions that stacks may be in, with the zones that they use.

Zones are named here because a program looks nothing up: a plan needs no account. A region is added with a line here
and its prices in `prices.yaml`.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from infra.errors import InfraError


@dataclass(frozen=True, slots=True)
class Region:
    """`place` is for people; `zones` are three that every account has (Tokyo's `b` is closed to new ones)."""

    name: str
    place: str
    zones: tuple[str, str, str]


_ALL: Final = (
    Region("us-east-1", "N. Virginia", ("us-east-1a", "us-east-1b", "us-east-1c")),
    Region("eu-central-1", "Frankfurt", ("eu-central-1a", "eu-central-1b", "eu-central-1c")),
    Region("eu-west-1", "Ireland", ("eu-west-1a", "eu-west-1b", "eu-west-1c")),
    Region("ap-northeast-1", "Tokyo", ("ap-northeast-1a", "ap-northeast-1c", "ap-northeast-1d")),
)
REGIONS: Final = MappingProxyType({region.name: region for region in _ALL})


def region(name: str) -> Region:
    """Raises InfraError for one that is not in the table."""
    found = REGIONS.get(name)
    if found is None:
        raise InfraError(
            f"The region '{name}' is not in infra/regions.py: there are {', '.join(REGIONS)}. "
            "Add its zones there, and its prices to infra/prices.yaml."
        )
    return found
