"""What a customer's other treatments leave room for: so many a day, and the time between two of a kind."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.models import Outcome, Reservation, ReservationState

LIVE: Final = (ReservationState.HELD, ReservationState.CONFIRMED)


@dataclass(frozen=True, slots=True)
class Booking:
    """A live reservation (`id`, `run_id`, `state` are its own), or a treatment that an outcome tells of (`id` "")."""

    id: str
    treatment: str
    day: date
    run_id: str | None = None
    state: str = ""
    cost_micros: int = 0


class CustomerLimits:
    """The bookings of some customers around a day, and what the catalogue then refuses them."""

    def __init__(self, catalogue: CatalogueIn, day: date) -> None:
        self._catalogue = catalogue
        self._cooldowns = {treatment.name: treatment.cooldown_days for treatment in catalogue.treatments}
        self.day = day
        self._bookings: dict[str, list[Booking]] = {}

    async def load(
        self, session: AsyncSession, tenant_id: str, customers: Collection[str], run_id: str | None = None
    ) -> None:
        """Adds what is booked for these customers, by `run_id` on any day; a few hundred of them at a time."""
        longest = max(self._cooldowns.values(), default=0)
        near = Reservation.day.between(self.day - timedelta(days=longest), self.day + timedelta(days=longest))
        live = select(Reservation).where(
            Reservation.tenant_id == tenant_id,
            Reservation.customer_id.in_(customers),
            Reservation.state.in_(LIVE),
            near if run_id is None else or_(near, Reservation.run_id == run_id),
        )
        for row in (await session.scalars(live.execution_options(populate_existing=True))).all():
            booking = Booking(row.id, row.treatment, row.day, row.run_id, row.state, row.cost_micros)
            self.note(row.customer_id or "", booking)
        if longest:
            since = datetime.combine(self.day, time(), UTC) - timedelta(days=longest)
            had = select(Outcome.customer_id, Outcome.treatment, Outcome.at).where(
                Outcome.tenant_id == tenant_id, Outcome.customer_id.in_(customers), Outcome.at > since
            )
            for customer_id, treatment, at in (await session.execute(had.where(Outcome.treatment != ""))).all():
                self.note(customer_id, Booking("", treatment, at.date()))

    def note(self, customer_id: str, booking: Booking) -> None:
        self._bookings.setdefault(customer_id, []).append(booking)

    def bookings(self, customer_id: str) -> Iterable[Booking]:
        return self._bookings.get(customer_id, ())

    def refusal(self, customer_id: str, treatment: str) -> str | None:
        """Why the customer may not have it on the day, in a clause; None where they may."""
        most = self._catalogue.treatments_per_customer
        today = [one for one in self.bookings(customer_id) if one.id and one.day == self.day]
        if len(today) >= most:
            return f"the customer has {len(today)} of at most {most} a day on {self.day}: {today[0].treatment}"
        return self.too_soon(customer_id, treatment)

    def too_soon(self, customer_id: str, treatment: str, without: Collection[str] = ()) -> str | None:
        """As `refusal`, for the time between two of a kind alone; reservations with an id in `without` do not count."""
        days = self._cooldowns.get(treatment, 0)
        for one in self.bookings(customer_id):
            near = one.treatment == treatment and one.id not in without and abs((self.day - one.day).days) < days
            if near:
                return f"the customer has {treatment} on {one.day}, and {days} days must lie between"
        return None
