"""How a day's capacity stands."""

from datetime import date

from sqlalchemy.ext.asyncio import AsyncSession

from app.pack import Kit
from app.packs.treatments.capacity import BUDGET, CapacityBook, Room, limits_of
from app.packs.treatments.catalogue import in_force
from app.packs.treatments.schemas_allocation import CapacityOut, DayOut
from app.principal import Principal
from app.storage.base import MICROS


async def day_as_it_is(session: AsyncSession, kit: Kit, principal: Principal, day: date | None) -> DayOut:
    """By the limits in force now; today (UTC) where no day is given. Raises InvalidInput without a catalogue."""
    day = day or kit.ports.clock().date()
    version, catalogue = await in_force(session, principal.tenant_id)
    used = await CapacityBook(session, principal.tenant_id, kit.ports.clock()).used(day)
    limits = limits_of(catalogue)
    room = Room(used, limits)
    # What a former catalogue had may still be held.
    names = [name for name in dict.fromkeys([*limits, *sorted(used)]) if name != BUDGET]
    left = room.left(BUDGET)
    return DayOut(
        day=day,
        catalogue_version=version,
        treatments=[_treatment(room, name) for name in names],
        budget_usd=catalogue.budget_usd_per_day,
        spent_usd=used.get(BUDGET, 0) / MICROS,
        left_usd=None if left is None else left / MICROS,
        over_usd=_over(room, BUDGET) / MICROS,
    )


def _treatment(room: Room, name: str) -> CapacityOut:
    limit, used = room.limits.get(name), room.used.get(name, 0)
    return CapacityOut(treatment=name, limit=limit, used=used, left=room.left(name), over=_over(room, name))


def _over(room: Room, name: str) -> int:
    limit = room.limits.get(name)
    return 0 if limit is None else max(0, room.used.get(name, 0) - limit)
