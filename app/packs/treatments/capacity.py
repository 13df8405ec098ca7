"""Units of treatments and the day's budget: the rows that every reservation must pass.

Each treatment has a row a day, the budget one too. It is raised by one guarded UPDATE only, so that whatever runs at
the same time never passes a limit: see docs/decisions/0025-capacity-and-reservations.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, cast

from sqlalchemy import CursorResult, Table, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Unavailable
from app.governance.models_keys import Tenant
from app.ids import new_id
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.models import CapacityUse

BUDGET: Final = ""
"""Where a treatment is named in CapacityUse: the day's money, in micro-USD."""
_ROWS = cast(Table, CapacityUse.__table__)

DayUse = Counter[tuple[date, str]]
"""By day and treatment (BUDGET: micro-USD): what is given back."""


def limits_of(catalogue: CatalogueIn) -> dict[str, int | None]:
    """Units a day by treatment, and the budget; None is no limit."""
    limits = {treatment.name: treatment.capacity_per_day for treatment in catalogue.treatments}
    return {BUDGET: catalogue.budget_micros, **limits}


@dataclass(slots=True)
class Room:
    """What is left of a day while its rows are held: `used` by treatment, and what is taken from here."""

    used: dict[str, int]
    limits: Mapping[str, int | None]
    taken: Counter[str] = field(default_factory=Counter)

    def left(self, name: str) -> int | None:
        """None without a limit. A limit that was lowered below what is used leaves nothing: 0."""
        limit = self.limits.get(name)
        return None if limit is None else max(0, limit - self.used.get(name, 0) - self.taken[name])

    def lack(self, treatment: str, cost_micros: int) -> str | None:
        """Which of the two has no room for it (a treatment's name, or BUDGET); None where it fits."""
        units, money = self.left(treatment), self.left(BUDGET)
        if units is not None and units < 1:
            return treatment
        return BUDGET if money is not None and cost_micros > money else None

    def take(self, treatment: str, cost_micros: int) -> None:
        self.taken[treatment] += 1
        self.taken[BUDGET] += cost_micros


class CapacityBook:
    """A tenant's rows of capacity. Whoever locks several does so by day and name: nobody waits in a circle."""

    def __init__(self, session: AsyncSession, tenant_id: str, now: datetime) -> None:
        self._session = session
        self._tenant_id = tenant_id
        self._now = now

    async def line_up(self) -> None:
        """Puts those who hold or free units of a tenant in line, before they lock anything else.

        A customer's own limits span several days and treatments: no single row of capacity guards them.
        """
        row = select(Tenant.id).where(Tenant.id == self._tenant_id).with_for_update(key_share=True)
        await self._session.execute(row)

    async def open(self, day: date, treatments: Sequence[str], limits: Mapping[str, int | None]) -> Room:
        """Locks the day's rows of these treatments and of the budget, and makes those that are not there."""
        names = sorted({BUDGET, *treatments})
        await self._session.execute(self._fresh(day, names))
        query = select(_ROWS.c.treatment, _ROWS.c.used).where(*self._day(day), _ROWS.c.treatment.in_(names))
        rows = (await self._session.execute(query.order_by(_ROWS.c.treatment).with_for_update())).all()
        return Room({row.treatment: row.used for row in rows}, limits)

    async def close(self, day: date, room: Room) -> None:
        """Writes what was taken from the room.

        Raises Unavailable, which rolls all of it back, where a limit would be passed.
        """
        for name in sorted(name for name, units in room.taken.items() if units):
            if not await self._raise(day, name, room.taken[name], room.limits.get(name)):
                raise Unavailable("The day's capacity changed in the meantime: try again.", retry_after=1)

    async def _raise(self, day: date, name: str, units: int, limit: int | None) -> bool:
        within = [] if limit is None else [_ROWS.c.used + units <= limit]
        change = update(_ROWS).where(*self._day(day), _ROWS.c.treatment == name, *within)
        done = await self._session.execute(change.values(used=_ROWS.c.used + units))
        return cast(CursorResult[Any], done).rowcount == 1

    async def give_back(self, freed: DayUse) -> None:
        for day, name in sorted(freed):
            change = update(_ROWS).where(*self._day(day), _ROWS.c.treatment == name)
            await self._session.execute(change.values(used=_ROWS.c.used - freed[(day, name)]))

    async def used(self, day: date) -> dict[str, int]:
        """By treatment, the budget too, without a lock; what nobody took yet is not in it."""
        query = select(_ROWS.c.treatment, _ROWS.c.used).where(*self._day(day))
        return {row.treatment: row.used for row in await self._session.execute(query)}

    def _fresh(self, day: date, names: Sequence[str]) -> Any:
        dialect = postgresql if self._session.get_bind().dialect.name == "postgresql" else sqlite
        shared = {"tenant_id": self._tenant_id, "day": day, "used": 0, "created_at": self._now}
        rows = [{"id": new_id("capacity"), "treatment": name, **shared} for name in names]
        insert = dialect.insert(_ROWS).values(rows)
        return insert.on_conflict_do_nothing(index_elements=["tenant_id", "treatment", "day"])

    def _day(self, day: date) -> tuple[Any, ...]:
        return _ROWS.c.tenant_id == self._tenant_id, _ROWS.c.day == day
