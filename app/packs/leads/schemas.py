"""What the lead API takes and gives."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from app.packs.leads.models import Action, LeadStatus, OutcomeKind

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=20_000)]


def one_line(text: str) -> str:
    """The text with every run of white space as one blank: it will stand in titles, subjects and lists."""
    return " ".join(text.split())


Line = AfterValidator(one_line)
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Line]
Attribute = str | int | float | bool | None

MAX_ATTRIBUTES = 60


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class LeadIn(Request):
    """A first contact. `attributes` is a flat map of what is known of the person or the company."""

    name: Name
    email: EmailStr
    message: Text
    company: Name | None = None
    phone: Annotated[str, StringConstraints(max_length=50), Line] | None = None
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] | None = None
    country: Annotated[str, StringConstraints(max_length=100), Line] | None = None
    source: Literal["web_form", "email", "event", "referral", "partner", "import"] = "web_form"
    external_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    attributes: dict[Annotated[str, StringConstraints(max_length=64)], Attribute] = Field(default_factory=dict)

    @field_validator("attributes", mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        # Before each is looked at: a hundred thousand wrong ones are one error, not as many.
        if isinstance(value, dict) and len(value) > MAX_ATTRIBUTES:
            raise ValueError(f"at most {MAX_ATTRIBUTES} attributes")
        return value

    @field_validator("attributes")
    @classmethod
    def _bounded(cls, value: dict[str, Attribute]) -> dict[str, Attribute]:
        for name, item in value.items():
            if isinstance(item, str) and len(item) > 500:
                raise ValueError(f"attribute '{name[:40]}' is longer than 500 characters")
            if isinstance(item, int | float) and abs(item) > 1e15:
                raise ValueError(f"attribute '{name[:40]}' is larger than 1e15")
        return value


class MessageIn(Request):
    body: Text
    subject: Annotated[str, StringConstraints(max_length=300), Line] | None = None


class OutcomeIn(Request):
    kind: OutcomeKind
    value_usd: float | None = Field(None, ge=0, le=1e9)
    note: Annotated[str, StringConstraints(max_length=2_000)] | None = None


class FeedbackIn(Request):
    """At least one judgement. `decision_id` defaults to the lead's latest decision."""

    decision_id: Annotated[str, StringConstraints(max_length=64)] | None = None
    thumb: Literal["up", "down"] | None = None
    correct_action: Action | None = None
    csat: int | None = Field(None, ge=1, le=5)
    escalation_necessary: bool | None = None
    comment: Annotated[str, StringConstraints(max_length=2_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if all(v is None for v in (self.thumb, self.correct_action, self.csat, self.escalation_necessary)):
            raise ValueError("give at least one of thumb, correct_action, csat, escalation_necessary")
        return self


class LeadOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    external_id: str | None
    name: str
    email: str
    company: str | None
    phone: str | None
    language: str | None
    country: str | None
    source: str
    attributes: dict[str, Any]
    status: LeadStatus
    score: float | None
    created_at: datetime
    updated_at: datetime
    first_response_at: datetime | None
    follow_up_at: datetime | None


class MessageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    direction: str
    subject: str | None
    body: str
    created_at: datetime


class EventOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str
    kind: str
    summary: str
    data: dict[str, Any]
    created_at: datetime


class LeadDetail(LeadOut):
    """A lead with its messages, its timeline (oldest first) and the ids of its decisions."""

    messages: list[MessageOut]
    timeline: list[EventOut]
    decisions: list[str]


class LeadPage(BaseModel):
    items: list[LeadOut]
    next_cursor: str | None


class LeadCounts(BaseModel):
    total: int
    by_status: dict[LeadStatus, int]


class LeadAccepted(BaseModel):
    """The lead is stored and its decision queued; follow `job_id` or the lead's timeline."""

    lead: LeadOut
    message_id: str
    job_id: str


class MessageAccepted(BaseModel):
    lead_id: str
    message_id: str
    job_id: str


class OutcomeOut(BaseModel):
    id: str
    lead_id: str
    kind: OutcomeKind
    value_usd: float | None
    created_at: datetime


class FeedbackOut(BaseModel):
    id: str
    lead_id: str
    decision_id: str


class LineProblem(BaseModel):
    """One refused line of a batch; `line` counts from 1 and includes a CSV's header."""

    line: int
    problem: str


class BatchReport(BaseModel):
    """`accepted` were stored; `known` were there before under the same external_id; the others are named."""

    accepted: int
    known: int
    refused: int
    problems: list[LineProblem]
    problems_left_out: int
    lead_ids: list[str]


class LeadDecision(BaseModel):
    """What the model answers with. `evidence` holds ids of passages that it was given."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    confidence: float = Field(ge=0, le=1)
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
    evidence: list[str] = Field(default_factory=list, max_length=10)
    subject: Annotated[str, StringConstraints(max_length=200)] = ""
    reply: Annotated[str, StringConstraints(max_length=6_000)] = ""
    follow_up_days: int | None = Field(None, ge=1, le=365)
