"""What goes in and out of `/v1/teams/clients`."""

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, model_validator

from app.errors import InvalidInput
from app.http.deps import Moment
from app.integrations.base import checked_company, checked_repository, normal_email
from app.packs.teams.health import Direction, HealthState, trend
from app.packs.teams.models import Client, ClientSignal, HealthScore, SignalKind
from app.packs.teams.sentiment import Judged, Mood

MAX_CLIENTS: Final = 1_000
MAX_SIGNALS: Final = 5_000
"""Of one client in one import."""
MAX_TEXT: Final = 4_000
MAX_ATTRIBUTES: Final = 50


class Priority(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    URGENT = "urgent"


def _or_empty(check: Callable[[str], str]) -> Callable[[str], str]:
    """The check for texts that may be empty, with its sentence as a validation error."""

    def checked(text: str) -> str:
        try:
            return check(text) if text else text
        except InvalidInput as error:
            raise ValueError(error.detail) from None

    return checked


Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$")]
Attribute = Annotated[str, Field(max_length=500)] | bool | int | float | None


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, allow_inf_nan=False)


class SignalIn(_In):
    """`key` makes the same signal again nothing. `ref` joins a ticket's opening and solving."""

    key: str = Field(min_length=1, max_length=128)
    kind: SignalKind
    at: Moment
    quantity: float = Field(1.0, ge=0, le=1e9)
    ref: str = Field("", max_length=128)
    priority: Priority | None = None
    text: str = Field("", max_length=MAX_TEXT)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind in (SignalKind.TICKET_OPENED, SignalKind.TICKET_SOLVED) and not self.ref:
            raise ValueError("a ticket needs 'ref', the same when it is opened and when it is solved")
        if self.kind is SignalKind.MESSAGE and not self.text:
            raise ValueError("a message needs 'text'")
        return self


class ClientIn(_In):
    """A client with what is to be added or changed; what is left out stays as it is. A new one needs its name."""

    external_id: Reference
    name: str = Field("", max_length=200)
    email: Annotated[str, Field(max_length=320), AfterValidator(_or_empty(normal_email))] = ""
    crm_id: Annotated[str, AfterValidator(_or_empty(checked_company))] = ""
    repository: Annotated[str, AfterValidator(_or_empty(checked_repository))] = ""
    attributes: dict[Annotated[str, Field(max_length=60)], Attribute] = Field(
        default_factory=dict, max_length=MAX_ATTRIBUTES
    )
    signals: list[SignalIn] = Field(default_factory=list, max_length=MAX_SIGNALS)

    def changes(self) -> dict[str, Any]:
        """The fields of the row that were given."""
        given = self.model_dump(exclude_unset=True, exclude={"external_id", "signals"})
        return {name: value for name, value in given.items() if name != "name" or value}


class ClientsIn(RootModel[list[ClientIn]]):
    """An array of clients."""

    root: list[ClientIn] = Field(min_length=1, max_length=MAX_CLIENTS)


class Changes(BaseModel):
    new: int = 0
    changed: int = 0
    unchanged: int = 0


class ClientReport(BaseModel):
    """`known_signals` were there by their key, and stay as they were."""

    clients: Changes
    new_signals: int
    known_signals: int


class FactorOut(BaseModel):
    """`value` is 0 to 1, null without data; `weight` is its share of the score; `points` sum to the score."""

    name: str
    value: float | None
    weight: float
    points: float
    sentence: str
    source: str


class TrendOut(BaseModel):
    """Against the score of about a month before; `change` is in points, and steady within 5."""

    then: float
    at: datetime
    change: float
    direction: Direction


class HealthHead(BaseModel):
    id: str
    at: datetime
    score: float
    state: HealthState

    @classmethod
    def of(cls, row: HealthScore) -> "HealthHead":
        return cls(id=row.id, at=row.at, score=round(row.score, 2), state=HealthState(row.state))


class HealthOut(HealthHead):
    """A score, explained. `notes` say what it could not see; `method` is the rules' version."""

    factors: list[FactorOut]
    notes: list[str]
    method: str
    trend: TrendOut | None

    @classmethod
    def explained(cls, row: HealthScore, then: HealthScore | None = None) -> "HealthOut":
        head = HealthHead.of(row).model_dump()
        factors = [FactorOut(**_rounded(factor)) for factor in row.factors]
        return cls(**head, factors=factors, notes=row.notes, method=row.method, trend=_trend(row, then))


def _rounded(factor: dict[str, Any]) -> dict[str, Any]:
    digits = {"value": 3, "weight": 3, "points": 2}
    return {
        name: round(value, digits[name]) if name in digits and value is not None else value
        for name, value in factor.items()
    }


def _trend(row: HealthScore, then: HealthScore | None) -> TrendOut | None:
    if then is None:
        return None
    found = trend(row.score, then.score, then.at)
    return TrendOut(then=round(found.then, 2), at=found.at, change=round(found.change, 2), direction=found.direction)


class ClientOut(BaseModel):
    """A client and its newest score, null where there is none."""

    id: str
    external_id: str
    name: str
    email: str
    crm_id: str
    repository: str
    attributes: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    health: HealthHead | None

    @classmethod
    def of(cls, row: Client, score: HealthScore | None) -> "ClientOut":
        return cls(**_columns(row), health=None if score is None else HealthHead.of(score))


class ClientDetail(ClientOut):
    health: HealthOut | None

    @classmethod
    def explained(cls, row: Client, score: HealthScore | None, then: HealthScore | None) -> "ClientDetail":
        return cls(**_columns(row), health=None if score is None else HealthOut.explained(score, then))


def _columns(row: Client) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ClientOut.model_fields if name != "health"}


class ClientPage(BaseModel):
    items: list[ClientOut]
    next_cursor: str | None


class HistoryPage(BaseModel):
    """Scores, newest first."""

    items: list[HealthOut]
    next_cursor: str | None


class SignalOut(BaseModel):
    """A signal as a team member is shown it; `mood` is a message's, by a rule."""

    id: str
    kind: SignalKind
    source: str
    at: datetime
    ref: str
    priority: str
    quantity: float
    text: str
    mood: Mood | None = None
    mood_source: str | None = None

    @classmethod
    def of(cls, row: ClientSignal, text: str, judged: Judged | None) -> "SignalOut":
        return cls(
            id=row.id,
            kind=SignalKind(row.kind),
            source=row.source,
            at=row.at,
            ref=row.ref,
            priority=row.priority,
            quantity=row.quantity,
            text=text,
            mood=judged.mood if judged else None,
            mood_source=judged.source if judged and judged.mood else None,
        )


def scores_out(rows: Sequence[HealthScore]) -> list[HealthOut]:
    return [HealthOut.explained(row) for row in rows]
