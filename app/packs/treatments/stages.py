"""The agents of a run, as the messages between them: data, journey, recommendation, allocation, evaluation.

A chunk of customers goes through the first three; each says of every customer what it found, or why it could not.
All values are plain: a message goes through JSON where agents run in several processes.
"""

from dataclasses import dataclass, field
from datetime import datetime

from app.messages.base import Topic


@dataclass(frozen=True, slots=True)
class SetAside:
    """A customer that a stage could do nothing with: the others go on."""

    customer_id: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class EventSeen:
    at: datetime
    kind: str
    channel: str
    amount_micros: int | None
    text: str


@dataclass(frozen=True, slots=True)
class History:
    """A customer with what happened in the window. `events` are the newest ones, oldest first; what is older than
    those is told in `summary` ("" where all fit). `total` counts all in the window, `digest` is over all of them."""

    customer_id: str
    external_id: str
    segment: str
    fair_group: str
    worth_micros: int
    attributes: dict[str, str | int | float | bool]
    events: list[EventSeen]
    summary: str
    total: int
    digest: str
    contacts: dict[str, datetime] = field(default_factory=dict)
    """By treatment: when the customer last had it, also before the window; a time to come where it is booked."""
    tries: dict[str, int] = field(default_factory=dict)
    successes: dict[str, int] = field(default_factory=dict)
    """By treatment, up to now: how often the customer had it, and how often that was a success."""
    contacted: int = 0
    responded: int = 0
    """Of the window: events of the kinds `contact` and `response`."""
    weeks: list[int] = field(default_factory=list)
    """How many things the customer did themselves in each week of the window, oldest first."""
    first_at: datetime | None = None
    last_at: datetime | None = None
    amount_micros: int = 0
    """Of what the customer did themselves: the first and the last time, and the sum of amounts."""


@dataclass(frozen=True, slots=True)
class DataAsked:
    """The customers of a run's chunk: ids after `after_id` up to `until_id`."""

    tenant_id: str
    run_id: str
    after_id: str
    until_id: str


@dataclass(frozen=True, slots=True)
class DataAnswered:
    histories: list[History]
    set_aside: list[SetAside]


@dataclass(frozen=True, slots=True)
class Journey:
    """What a history amounts to.

    `features` are numbers (recency_days, frequency, trend, churn_risk, ... see `features`). `traits` are the same in
    words, with the attributes that the catalogue names: coarse, and all that a model may be shown, for `fingerprint` is
    made from the traits alone and so is `vector`, its place among others. `seen` is kept with the decision. `allowed`
    are the treatments that the customer may have by the catalogue's rules, `refused` why not the others.
    """

    customer_id: str
    fair_group: str
    worth_micros: int
    features: dict[str, float]
    traits: dict[str, str]
    fingerprint: str
    vector: list[float]
    seen: dict[str, str | int | float]
    allowed: list[str]
    refused: dict[str, str]


@dataclass(frozen=True, slots=True)
class JourneyAsked:
    tenant_id: str
    run_id: str
    as_of: datetime
    catalogue_version: int
    histories: list[History]


@dataclass(frozen=True, slots=True)
class JourneyAnswered:
    journeys: list[Journey]
    set_aside: list[SetAside]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A treatment for a customer. `chance` (0 to 1) that it succeeds; `value_micros` is what it is expected to bring,
    chance times worth more than without it, before its cost."""

    treatment: str
    chance: float
    value_micros: int
    cost_micros: int
    reason: str

    @property
    def net_micros(self) -> int:
        return self.value_micros - self.cost_micros


@dataclass(frozen=True, slots=True)
class Recommended:
    """Proposals for one customer, best net value first. `shared`: the answer was there already."""

    customer_id: str
    proposals: list[Proposal]
    answer_id: str
    shared: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """What the model took."""

    model_calls: int = 0
    tokens: int = 0
    cost_micros: int = 0
    shared_answers: int = 0


@dataclass(frozen=True, slots=True)
class RecommendationAsked:
    tenant_id: str
    run_id: str
    catalogue_version: int
    journeys: list[Journey]


@dataclass(frozen=True, slots=True)
class RecommendationAnswered:
    recommended: list[Recommended]
    set_aside: list[SetAside]
    spent: Spent


@dataclass(frozen=True, slots=True)
class RunAsked:
    """For the agents that look at a whole run."""

    tenant_id: str
    run_id: str
    actor: str


@dataclass(frozen=True, slots=True)
class RunAnswered:
    """`id` of what was made, "" where there was nothing to do."""

    id: str
    note: str


DATA = Topic("treatments.data", DataAsked, DataAnswered)
JOURNEY = Topic("treatments.journey", JourneyAsked, JourneyAnswered)
RECOMMENDATION = Topic("treatments.recommendation", RecommendationAsked, RecommendationAnswered)
ALLOCATION = Topic("treatments.allocation", RunAsked, RunAnswered, concurrency=1)
EVALUATION = Topic("treatments.evaluation", RunAsked, RunAnswered, concurrency=1)
