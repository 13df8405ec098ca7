"""What goes in and out of reservations, allocations and the queue. Money in US dollars."""

from datetime import date, datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from app.packs.treatments.catalogue import NAME
from app.packs.treatments.models import Allocation, AllocationState, Reservation, ReservationState
from app.storage.base import MICROS

Key = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[\x21-\x7e]+$")]


class ReservationIn(BaseModel):
    """`day` is a UTC day, today where it is left out. `customer` (our id or the tenant's own) may be left out: the unit
    is then held for whoever comes. A `key` that is known gives the reservation that was made with it."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    treatment: str = Field(pattern=NAME)
    day: date | None = None
    customer: str | None = Field(None, min_length=1, max_length=100)
    key: Key | None = None
    note: str = Field("", max_length=200)


class ReservationOut(BaseModel):
    """`expires_at` matters while it is held."""

    id: str
    treatment: str
    day: date
    state: ReservationState
    customer_id: str | None
    run_id: str | None
    allocation_id: str | None
    cost_usd: float
    note: str
    created_at: datetime
    expires_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Reservation) -> Self:
        names = [name for name in cls.model_fields if name != "cost_usd"]
        return cls(**{name: getattr(row, name) for name in names}, cost_usd=row.cost_micros / MICROS)


class ReservationPage(BaseModel):
    items: list[ReservationOut]
    next_cursor: str | None


class CapacityOut(BaseModel):
    """A treatment's units on a day. `limit` is None without one; `over` is what is held above a limit that was lowered
    since: it is not taken back, and nothing more is given."""

    treatment: str
    limit: int | None
    used: int
    left: int | None
    over: int


class DayOut(BaseModel):
    """Money in US dollars; None where the day has no budget."""

    day: date
    catalogue_version: int
    treatments: list[CapacityOut]
    budget_usd: float | None
    spent_usd: float
    left_usd: float | None
    over_usd: float


class ConflictOut(BaseModel):
    """A constraint that could not be met; `needed` and `available` in units, or micro-USD for the budget."""

    constraint: str
    needed: float
    available: float
    sentence: str


class AllocationOut(BaseModel):
    """`value_usd` is the expected net value of what was given; `score_usd` the same with the treatments' priorities,
    which is what was maximised. No allocation has a score above `bound_usd`; `gap` is the share that may be missing.
    `usage` counts units by treatment. What was planned and could not be held any more is in `not_held`."""

    id: str
    run_id: str
    number: int
    day: date
    state: AllocationState
    created_at: datetime
    created_by: str
    method: str
    optimal: bool | None
    feasible: bool
    value_usd: float
    score_usd: float
    bound_usd: float
    gap: float
    seconds: float | None
    allocated: int
    queued: int
    none: int
    moved: int
    not_held: int
    usage: dict[str, int]
    spent_usd: float
    conflicts: list[ConflictOut]
    constraints: dict[str, Any]
    note: str

    @classmethod
    def of(cls, row: Allocation) -> Self:
        report = row.report
        plain = ("id", "run_id", "number", "day", "state", "created_at", "created_by", "method", "feasible", "gap")
        counts = ("allocated", "queued", "none", "moved", "not_held")
        return cls(
            **{name: getattr(row, name) for name in plain},
            **{name: report.get(name, 0) for name in counts},
            value_usd=row.value_micros / MICROS,
            bound_usd=row.bound_micros / MICROS,
            score_usd=report.get("score_micros", 0) / MICROS,
            spent_usd=report.get("spent_micros", 0) / MICROS,
            optimal=report.get("optimal"),
            seconds=report.get("seconds"),
            usage=report.get("usage", {}),
            conflicts=report.get("conflicts", []),
            constraints=row.problem,
            note=report.get("note", ""),
        )


class AllocationList(BaseModel):
    items: list[AllocationOut]
    next_cursor: str | None


class WaitsFor(BaseModel):
    """An option of the customer, and what stands against it today; `why` is "" where it is free."""

    treatment: str
    net_usd: float
    why: str


class QueuedOut(BaseModel):
    """`position` counts from 1 over the run's whole queue. `net_usd` is of the best option."""

    position: int
    customer_id: str
    net_usd: float
    fair_group: str
    reason: str
    since: datetime
    waits_for: list[WaitsFor]


class QueueOut(BaseModel):
    """Ordered by value. `length` is of the whole queue."""

    length: int
    items: list[QueuedOut]
    next_cursor: str | None
