"""How far a tenant wrote, for its reads not to go back behind it."""

from typing import Protocol

from app.principal import EVERY_TENANT


class MarksAway(Exception):
    """Nobody can say at the moment how far a tenant wrote."""


class WriteMarks(Protocol):
    """The position in the primary's log (LSN, bytes) after each tenant's last commit, as all processes know it."""

    async def note(self, tenant: str, position: int) -> None:
        """The tenant committed before `position`. An earlier one than is known changes nothing.

        Raises nothing: what cannot be told now is told later.
        """

    async def needed(self, tenant: str) -> int | None:
        """What a server must have replayed for the tenant to read there; None where that is unknown as yet.

        Raises MarksAway.
        """

    async def start(self, position: int) -> int:
        """Says that what was written before `position` counts for tenants of whom nothing is known; the position that
        counts then, which may be an earlier process's. Raises MarksAway."""


class LocalMarks:
    """`WriteMarks` of one process alone: enough only where no other process writes."""

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        self._start: int | None = None

    async def note(self, tenant: str, position: int) -> None:
        self._positions[tenant] = max(position, self._positions.get(tenant, 0))

    async def needed(self, tenant: str) -> int | None:
        if self._start is None:
            return None
        return max(self._start, self._positions.get(tenant, 0), self._positions.get(EVERY_TENANT, 0))

    async def start(self, position: int) -> int:
        self._start = position if self._start is None else self._start
        return self._start
