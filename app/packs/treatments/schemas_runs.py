"""Runs and their results as the API takes and gives them. Money in USD, times in UTC."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.http.deps import Moment
from app.packs.treatments.models import ResultState, Run, RunState
from app.packs.treatments.run_rows import worked
from app.packs.treatments.windows import Window
from app.storage.base import MICROS

MAX_LISTED = 10_000
ExternalId = Annotated[str, Field(min_length=1, max_length=128)]


class RunOptions(BaseModel):
    """How a run works, whoever it is over.

    `priority` 0 to 9, the highest goes first. `window` is "HH:MM-HH:MM" in UTC and may cross midnight: work starts
    only inside it. `control_share` and `seed` say who is held back; without them, the catalogue's share and a seed of
    its own. `as_of` is the moment that histories end at, now where not given.
    """

    model_config = ConfigDict(extra="forbid")

    priority: int = Field(0, ge=0, le=9)
    window: str = Field("", max_length=11)
    max_cost_usd: float | None = Field(None, gt=0, le=1_000_000)
    control_share: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, lt=1 << 53)
    allocate: bool = True
    as_of: Moment | None = None

    @model_validator(mode="after")
    def _window_is_one(self) -> Self:
        Window.parse(self.window)
        return self


class RunIn(RunOptions):
    """Exactly one of `all`, `segment` and `customers` (their external ids) says whom the run is over."""

    all: bool = False
    segment: str | None = Field(None, max_length=60)
    customers: list[ExternalId] | None = Field(None, min_length=1, max_length=MAX_LISTED)

    @model_validator(mode="after")
    def _one_scope(self) -> Self:
        if sum((self.all, self.segment is not None, self.customers is not None)) != 1:
            raise ValueError("say whom the run is over: give exactly one of 'all' (true), 'segment' and 'customers'")
        return self


class ResumeIn(BaseModel):
    """What may be changed as a run goes on; what is not given stays."""

    model_config = ConfigDict(extra="forbid")

    max_cost_usd: float | None = Field(None, gt=0, le=1_000_000)
    window: str | None = Field(None, max_length=11)


class RunOut(BaseModel):
    """`finished` of `total` customers have a result, `set_aside` of them without a decision.

    `rate` is customers a second over the newest chunks, and over the whole run once it does not work any more.
    `projected_cost_usd` goes by what customers have cost so far. `seconds_left` is None where nothing is known of it,
    or the run does not work now.
    """

    id: str
    state: RunState
    reason: str
    scope: dict[str, Any]
    priority: int
    window: str
    seed: int
    control_share: float
    allocate: bool
    max_cost_usd: float | None
    catalogue_version: int
    as_of: datetime
    created_at: datetime
    created_by: str
    started_at: datetime | None
    finished_at: datetime | None
    resume_at: datetime | None
    total: int
    finished: int
    set_aside: int
    chunks: int
    chunks_open: int
    model_calls: int
    shared_answers: int
    tokens: int
    cost_usd: float
    projected_cost_usd: float | None
    worked_s: float
    rate: float | None
    seconds_left: float | None

    @classmethod
    def of(cls, run: Run, rate: float | None, now: datetime) -> "RunOut":
        known = {name: getattr(run, name) for name in cls.model_fields if hasattr(run, name)}
        took = worked(run, now)
        if rate is None and run.finished and took:
            rate = run.finished / took
        left = max(0, run.total - run.finished)
        projected = run.cost_micros * (run.finished + left) / run.finished / MICROS if run.finished else None
        works = run.state == RunState.RUNNING and rate
        return cls(
            **known | {"worked_s": took},
            max_cost_usd=None if run.max_cost_micros is None else run.max_cost_micros / MICROS,
            cost_usd=run.cost_micros / MICROS,
            projected_cost_usd=projected,
            rate=rate,
            seconds_left=left / rate if works and rate else None,
        )


class RunPage(BaseModel):
    items: list[RunOut]
    next_cursor: str | None


class OptionOut(BaseModel):
    treatment: str
    chance: float
    value_usd: float
    cost_usd: float
    reason: str


class ResultOut(BaseModel):
    """What was decided about a customer. `options` are best first; `seen` is what the decision rests on."""

    external_id: str
    customer_id: str
    run_id: str
    state: ResultState
    treatment: str
    net_usd: float
    reason: str
    fair_group: str
    fingerprint: str
    options: list[OptionOut]
    seen: dict[str, Any]
    answer_id: str | None
    allocation_id: str | None
    decided_at: datetime
    updated_at: datetime


class ResultPage(BaseModel):
    """In the order of the customers; `next_cursor` is None at the end."""

    items: list[ResultOut]
    next_cursor: str | None
