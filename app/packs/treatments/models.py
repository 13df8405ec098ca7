"""Tables of treatments: customers, what happened to them, runs over them, and what was decided. Money in micro-USD.

A customer who is deleted takes their rows along. The database looks for those by the customer's id alone: that is what
the indexes `..._deletion` are for. It looks for those of a run that is deleted by the run's id alone: each of
their tables has an index that begins with it.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Date, Float, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.storage.base import Base, TenantRow


class Customer(TenantRow, Base):
    """A customer; `external_id` is the tenant's own id of them. `worth_micros` is what winning them brings.

    `fair_group` is the group that fairness floors speak of, "" for none. `attributes` are flat: texts, numbers,
    booleans.
    """

    __tablename__ = "treatment_customers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "external_id"),
        Index("ix_treatment_customers_order", "tenant_id", "id"),
        Index("ix_treatment_customers_segment", "tenant_id", "segment", "id"),
        Index("ix_treatment_customers_email", "tenant_id", "email"),
    )

    external_id: Mapped[str] = mapped_column(String(128))
    email: Mapped[str] = mapped_column(String(320), default="")
    segment: Mapped[str] = mapped_column(String(60), default="")
    fair_group: Mapped[str] = mapped_column(String(60), default="")
    worth_micros: Mapped[int] = mapped_column(BigInteger)
    attributes: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime]


class CustomerEvent(TenantRow, Base):
    """Something that a customer did, or that was done with them. An event with a known `key` is the same event."""

    __tablename__ = "treatment_events"
    __table_args__ = (
        UniqueConstraint("tenant_id", "customer_id", "key"),
        Index("ix_treatment_events_time", "tenant_id", "customer_id", "at"),
        Index("ix_treatment_events_deletion", "customer_id"),
    )

    customer_id: Mapped[str] = mapped_column(ForeignKey("treatment_customers.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(40))
    channel: Mapped[str] = mapped_column(String(40), default="")
    amount_micros: Mapped[int | None] = mapped_column(BigInteger)
    text: Mapped[str] = mapped_column(Text, default="")


class Catalogue(TenantRow, Base):
    """A version of what may be done, within which limits (`catalogue.CatalogueIn` as JSON); the newest is in force."""

    __tablename__ = "treatment_catalogues"
    __table_args__ = (UniqueConstraint("tenant_id", "version"),)

    version: Mapped[int]
    content: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(200))


class Outcome(TenantRow, Base):
    """What came of a treatment, or of none (`treatment` is "": a control). `key` is the tenant's own, once."""

    __tablename__ = "treatment_outcomes"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index("ix_treatment_outcomes_customer", "tenant_id", "customer_id", "at"),
        Index("ix_treatment_outcomes_deletion", "customer_id"),
        Index("ix_treatment_outcomes_run", "tenant_id", "run_id", "customer_id"),
        Index("ix_treatment_outcomes_day", "tenant_id", "treatment", "at"),
    )

    key: Mapped[str] = mapped_column(String(128))
    customer_id: Mapped[str] = mapped_column(ForeignKey("treatment_customers.id", ondelete="CASCADE"))
    run_id: Mapped[str | None] = mapped_column(String(64))
    treatment: Mapped[str] = mapped_column(String(40))
    success: Mapped[bool]
    value_micros: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[datetime]


class Case(TenantRow, Base):
    """Past cases that look alike (one `fingerprint`) and had the same treatment: how many, and how many succeeded.

    `vector` is the fingerprint's place among the others, for the nearest ones to be found.
    """

    __tablename__ = "treatment_cases"
    __table_args__ = (UniqueConstraint("tenant_id", "fingerprint", "treatment"),)

    fingerprint: Mapped[str] = mapped_column(String(64))
    treatment: Mapped[str] = mapped_column(String(40))
    vector: Mapped[list[Any]]
    trials: Mapped[int]
    successes: Mapped[int]
    updated_at: Mapped[datetime]


class ModelAnswer(TenantRow, Base):
    """What the model proposed for one profile: shared by all customers whose profile is the same.

    `key` covers all that the answer rests on: profile, cases shown, catalogue, prompt version, model route.
    """

    __tablename__ = "treatment_answers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index("ix_treatment_answers_age", "tenant_id", "created_at"),
    )

    key: Mapped[str] = mapped_column(String(64))
    profile: Mapped[dict[str, Any]]
    proposals: Mapped[list[Any]]
    prompt_version: Mapped[int]
    model: Mapped[str] = mapped_column(String(120))
    provider: Mapped[str] = mapped_column(String(60))
    catalogue_version: Mapped[int]


class RunState(StrEnum):
    """`paused`: by a person, for the tenant's budget, outside its window, or while no model answers (`reason`)."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    ALLOCATING = "allocating"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Run(TenantRow, Base):
    """One batch over customers.

    `scope` is `{"all": true}`, `{"segment": name}` or `{"listed": true}` (rows of RunMember). `cursor` is the id of the
    last customer that a chunk took. `tries` counts the jobs that started or allocated it. `window` is "" or
    "HH:MM-HH:MM" in UTC: work starts only inside it.
    `worked_s` is the time in which chunks were under way, for the rate; `active_since` since when they are now.
    `evaluation` is what the run was worth when its outcomes were last looked at.
    """

    __tablename__ = "treatment_runs"
    __table_args__ = (Index("ix_treatment_runs_state", "tenant_id", "state"),)

    state: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(Text, default="")
    scope: Mapped[dict[str, Any]]
    priority: Mapped[int] = mapped_column(Integer, default=0)
    window: Mapped[str] = mapped_column(String(11), default="")
    seed: Mapped[int] = mapped_column(BigInteger)
    control_share: Mapped[float] = mapped_column(Float)
    max_cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    catalogue_version: Mapped[int]
    allocate: Mapped[bool] = mapped_column(default=True)
    as_of: Mapped[datetime]
    resume_at: Mapped[datetime | None]
    cursor: Mapped[str] = mapped_column(String(64), default="")
    exhausted: Mapped[bool] = mapped_column(default=False)
    total: Mapped[int] = mapped_column(Integer, default=0)
    finished: Mapped[int] = mapped_column(Integer, default=0)
    set_aside: Mapped[int] = mapped_column(Integer, default=0)
    chunks: Mapped[int] = mapped_column(Integer, default=0)
    chunks_open: Mapped[int] = mapped_column(Integer, default=0)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    model_calls: Mapped[int] = mapped_column(Integer, default=0)
    shared_answers: Mapped[int] = mapped_column(Integer, default=0)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    created_by: Mapped[str] = mapped_column(String(200))
    started_at: Mapped[datetime | None]
    active_since: Mapped[datetime | None]
    worked_s: Mapped[float] = mapped_column(Float, default=0.0)
    finished_at: Mapped[datetime | None]
    evaluation: Mapped[dict[str, Any] | None]


class RunMember(TenantRow, Base):
    """A customer of a run that was given a list."""

    __tablename__ = "treatment_run_members"
    __table_args__ = (
        UniqueConstraint("run_id", "tenant_id", "customer_id"),
        Index("ix_treatment_run_members_deletion", "customer_id"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("treatment_runs.id", ondelete="CASCADE"))
    customer_id: Mapped[str] = mapped_column(ForeignKey("treatment_customers.id", ondelete="CASCADE"))


class ChunkState(StrEnum):
    """`open`: a job works on it. `waiting`: given back by a run that paused; taken first when it goes on."""

    OPEN = "open"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"


class RunChunk(TenantRow, Base):
    """Customers of a run with ids after `after_id` up to `until_id`, about a hundred: one job.

    `tries` counts its jobs. `alone`: its customers are worked on one by one; `trying` is the one under way then, and
    `deaths` how often the process ended over it.
    """

    __tablename__ = "treatment_chunks"
    __table_args__ = (
        UniqueConstraint("tenant_id", "run_id", "number"),
        Index("ix_treatment_chunks_state", "run_id", "tenant_id", "state"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("treatment_runs.id", ondelete="CASCADE"))
    number: Mapped[int]
    after_id: Mapped[str] = mapped_column(String(64))
    until_id: Mapped[str] = mapped_column(String(64))
    customers: Mapped[int]
    state: Mapped[str] = mapped_column(String(10))
    error: Mapped[str] = mapped_column(Text, default="")
    tries: Mapped[int] = mapped_column(default=0)
    alone: Mapped[bool] = mapped_column(default=False)
    trying: Mapped[str] = mapped_column(String(64), default="")
    deaths: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime]


class ResultState(StrEnum):
    """`proposed`: not allocated yet. `queued`: would have one, waits for capacity. `none`: nothing is worth its cost,
    or allowed. `control`: held back on purpose. `set_aside`: could not be decided, `reason` says why."""

    PROPOSED = "proposed"
    ALLOCATED = "allocated"
    QUEUED = "queued"
    NONE = "none"
    CONTROL = "control"
    SET_ASIDE = "set_aside"


class Result(TenantRow, Base):
    """What a run decided about one customer, and all that it saw.

    `options` are the proposals that the customer may have, best first (`stages.Proposal` as JSON). `seen` is the
    journey: window, features, how many events, a digest of them. `answer_id` names the ModelAnswer. `net_micros` is the
    expected value less the cost: of `treatment` once allocated, of the best option before.
    """

    __tablename__ = "treatment_results"
    __table_args__ = (
        UniqueConstraint("tenant_id", "run_id", "customer_id"),
        Index("ix_treatment_results_state", "run_id", "tenant_id", "state", "net_micros"),
        Index("ix_treatment_results_customer", "tenant_id", "customer_id"),
        Index("ix_treatment_results_deletion", "customer_id"),
        Index("ix_treatment_results_answer", "tenant_id", "answer_id"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("treatment_runs.id", ondelete="CASCADE"))
    customer_id: Mapped[str] = mapped_column(ForeignKey("treatment_customers.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(12))
    fair_group: Mapped[str] = mapped_column(String(60))
    treatment: Mapped[str] = mapped_column(String(40), default="")
    net_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    reason: Mapped[str] = mapped_column(Text, default="")
    fingerprint: Mapped[str] = mapped_column(String(64), default="")
    options: Mapped[list[Any]]
    seen: Mapped[dict[str, Any]]
    answer_id: Mapped[str | None] = mapped_column(String(64))
    allocation_id: Mapped[str | None] = mapped_column(String(64))
    updated_at: Mapped[datetime]


class AllocationState(StrEnum):
    """`asked`: not solved yet. `writing`: solved, and being carried out. `failed`: given up, `report` says why."""

    ASKED = "asked"
    WRITING = "writing"
    DONE = "done"
    FAILED = "failed"


class Allocation(TenantRow, Base):
    """One solution for a run and a day: how it was found, how good it surely is, what held it back.

    `plan` is what was chosen (`allocation_plan`), from the solution on: who takes up the writing does not solve again.
    It is empty again once the allocation has ended.
    `method` is exact or greedy. No allocation has a score (its value with priorities, in `report`) above
    `bound_micros`; `gap` is (bound - score) / bound. `problem` is the constraints as they were, `report` usage,
    conflicts, seconds.
    """

    __tablename__ = "treatment_allocations"
    __table_args__ = (UniqueConstraint("run_id", "tenant_id", "number"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("treatment_runs.id", ondelete="CASCADE"))
    number: Mapped[int]
    day: Mapped[date] = mapped_column(Date)
    state: Mapped[str] = mapped_column(String(10))
    plan: Mapped[str] = mapped_column(Text, default="")
    method: Mapped[str] = mapped_column(String(10))
    feasible: Mapped[bool]
    value_micros: Mapped[int] = mapped_column(BigInteger)
    bound_micros: Mapped[int] = mapped_column(BigInteger)
    gap: Mapped[float] = mapped_column(Float)
    problem: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(String(200))


class ReservationState(StrEnum):
    HELD = "held"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    EXPIRED = "expired"


class Reservation(TenantRow, Base):
    """One unit of a treatment's capacity on a day, held for a customer (or, without one, for whoever comes).

    A held one expires at `expires_at`; a confirmed one stays. `cost_micros` counts against the day's budget.
    """

    __tablename__ = "treatment_reservations"
    __table_args__ = (
        UniqueConstraint("tenant_id", "key"),
        Index("ix_treatment_reservations_day", "tenant_id", "treatment", "day", "state"),
        Index("ix_treatment_reservations_expiry", "state", "expires_at"),
        Index("ix_treatment_reservations_run", "tenant_id", "run_id", "state", "customer_id"),
        Index("ix_treatment_reservations_customer", "tenant_id", "customer_id", "day"),
        Index("ix_treatment_reservations_deletion", "customer_id"),
    )

    key: Mapped[str] = mapped_column(String(200))
    treatment: Mapped[str] = mapped_column(String(40))
    day: Mapped[date] = mapped_column(Date)
    customer_id: Mapped[str | None] = mapped_column(ForeignKey("treatment_customers.id", ondelete="CASCADE"))
    run_id: Mapped[str | None] = mapped_column(String(64))
    allocation_id: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(10))
    cost_micros: Mapped[int] = mapped_column(BigInteger, default=0)
    expires_at: Mapped[datetime]
    note: Mapped[str] = mapped_column(String(200), default="")
    updated_at: Mapped[datetime]


class CapacityUse(TenantRow, Base):
    """How many units of a treatment are held or confirmed on a day ("" is the day's budget, in micro-USD).

    The one row that every reservation must pass: raised only while it stays within the limit.
    """

    __tablename__ = "treatment_capacity"
    __table_args__ = (UniqueConstraint("tenant_id", "treatment", "day"),)

    treatment: Mapped[str] = mapped_column(String(40))
    day: Mapped[date] = mapped_column(Date)
    used: Mapped[int] = mapped_column(BigInteger)
