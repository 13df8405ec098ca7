"""How far a tenant wrote, for its reads not to go back behind it."""

from dataclasses import dataclass
from typing import Final, Protocol

from app.ids import new_id
from app.principal import EVERY_TENANT

TIMELINE_BITS: Final = 64
"""A position has that many bits for bytes since the log's beginning, and above them the log's timeline."""


class MarksAway(Exception):
    """Nobody can say at the moment how far a tenant wrote."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows how far tenants wrote. `since` is when that began, as a name that is given once."""

    since: str


class WriteMarks(Protocol):
    """The position in the primary's log after each tenant's last commit, as all processes know it.

    Positions are those of `app.storage.postgres.position`: larger is later, a new timeline than an old one too.
    """

    async def note(self, tenant: str, position: int) -> None:
        """The tenant committed before `position`. An earlier one than is known changes nothing.

        Raises nothing: what cannot be told now is told later.
        """

    async def lose(self) -> None:
        """Something was committed, nobody knows where. Raises nothing."""

    async def needed(self, tenant: str) -> int | Unknown:
        """What a server must have replayed for the tenant to read there. Raises MarksAway."""

    async def start(self, position: int, unknown: Unknown) -> int | Unknown:
        """Says that what was written before `position`, which was asked for after `unknown` was answered, counts for
        tenants of whom nothing else is known; what counts then. Raises MarksAway."""


class LocalMarks:
    """`WriteMarks` of one process alone: enough only where no other process writes."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._start: int | Unknown = Unknown(new_id("mark"))

    async def note(self, tenant: str, position: int) -> None:
        self._positions[tenant] = max(position, self._positions.get(tenant, 0))

    async def lose(self) -> None:
        self._start = Unknown(new_id("mark"))

    async def needed(self, tenant: str) -> int | Unknown:
        if isinstance(self._start, Unknown):
            return self._start
        return max(self._start, self._positions.get(tenant, 0), self._positions.get(EVERY_TENANT, 0))

    async def start(self, position: int, unknown: Unknown) -> int | Unknown:
        if self._start == unknown:
            self._start = position
        return self._start
