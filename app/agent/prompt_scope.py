"""Where a version of a prompt is in force: everywhere, or in the environments and regions that it names."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

from app.errors import ConfigError
from app.settings import Environment


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process runs; the region "" has no name."""

    environment: Environment = Environment.DEVELOPMENT
    region: str = ""

    def __str__(self) -> str:
        region = f"the region '{self.region}'" if self.region else "no region"
        return f"the environment '{self.environment}' and {region}"


@dataclass(frozen=True, slots=True)
class Scope:
    """Environments and regions; an empty set is all of them."""

    environments: frozenset[Environment] = frozenset()
    regions: frozenset[str] = frozenset()

    def __str__(self) -> str:
        named = [*sorted(self.environments), *sorted(self.regions)]
        return ", ".join(named) or "everywhere"

    def holds(self, place: Place) -> bool:
        here = not self.environments or place.environment in self.environments
        return here and (not self.regions or place.region in self.regions)

    @property
    def rank(self) -> int:
        """A scope that names a region goes before one that names an environment, both before everywhere."""
        return 2 * bool(self.regions) + bool(self.environments)

    def rivals(self, other: "Scope") -> bool:
        """Whether at some place both hold and neither goes before the other."""
        return self.rank == other.rank and all(
            not mine or not theirs or mine & theirs
            for mine, theirs in ((self.environments, other.environments), (self.regions, other.regions))
        )


class Scoped(Protocol):
    """An active version."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def scope(self) -> Scope: ...


def check_scopes(active: Iterable[Scoped]) -> None:
    """Raises ConfigError where two active versions of one prompt would be in force at one place, whichever it is."""
    for one, other in combinations(active, 2):
        if one.name == other.name and one.scope.rivals(other.scope):
            raise ConfigError(
                f"The prompt '{one.name}' has two active versions for one place, {one.version} ({one.scope}) and "
                f"{other.version} ({other.scope}): leave one active, or give them environments or regions of their own."
            )
