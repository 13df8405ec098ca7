"""A customer's story as it is told: every decision with what it rested on, and what came of it."""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel

from app.packs.treatments.models import ReservationState, RunState
from app.packs.treatments.schemas_runs import ResultOut


class RunTold(BaseModel):
    id: str
    state: RunState
    created_at: datetime
    created_by: str
    as_of: datetime
    scope: dict[str, Any]
    catalogue_version: int
    seed: int
    control_share: float


class AnswerTold(BaseModel):
    """What the model was shown of all customers who look alike, and what it proposed."""

    id: str
    model: str
    provider: str
    prompt_version: int
    catalogue_version: int
    asked_at: datetime
    profile: dict[str, Any]
    proposals: list[Any]


class AllocationTold(BaseModel):
    """The allocation that the decision came from. `score_usd` is its value with the treatments' priorities, which was
    maximised: no allocation has one above `bound_usd`, and `gap` is the share that may be missing. `problem` is the
    limits as they were."""

    id: str
    number: int
    day: date
    method: str
    feasible: bool
    value_usd: float
    score_usd: float
    bound_usd: float
    gap: float
    problem: dict[str, Any]
    report: dict[str, Any]
    made_at: datetime
    created_by: str


class DecisionTold(BaseModel):
    """`queue_position`, from 1, where the customer waits for capacity."""

    run: RunTold
    result: ResultOut
    answer: AnswerTold | None
    allocation: AllocationTold | None
    queue_position: int | None


class ReservationTold(BaseModel):
    id: str
    treatment: str
    day: date
    state: ReservationState
    cost_usd: float
    run_id: str | None
    expires_at: datetime
    made_at: datetime
    updated_at: datetime
    note: str


class OutcomeTold(BaseModel):
    at: datetime
    treatment: str
    success: bool
    value_usd: float
    run_id: str | None


class StoryOut(BaseModel):
    """Newest first; at most 50 decisions, 200 reservations and 200 outcomes. `decisions_total` counts all."""

    customer_id: str
    external_id: str
    segment: str
    fair_group: str
    worth_usd: float
    known_since: datetime
    decisions_total: int
    decisions: list[DecisionTold]
    reservations: list[ReservationTold]
    outcomes: list[OutcomeTold]
