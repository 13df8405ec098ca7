"""What a decision rests on, as plain data: stored with the decision, so that it can be explained and replayed."""

from datetime import date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Fact(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LeadFacts(Fact):
    """What the model may know of the person: no address, no phone number."""

    name: str
    company: str | None
    language: str | None
    country: str | None
    source: str
    attributes: dict[str, Any]


class Enrichment(Fact):
    """What is read off the lead without a model.

    `language` is BCP 47, the declared one or the one that the text looks like. `email_kind` is one of free,
    company, disposable. `signals` names what the message says (see `lexicon.yaml`), sorted. `wished` is the meeting
    time that the message asks for.
    """

    language: str
    email_kind: str
    domain: str
    signals: tuple[str, ...]
    wished: datetime | None = None

    def has(self, *names: str) -> bool:
        return any(name in self.signals for name in names)


class ScoreFacts(Fact):
    """Probability of conversion and what moved it, largest first: (feature, value, log-odds)."""

    probability: float
    version: str
    contributions: tuple[tuple[str, str, float], ...] = ()


class PassageFacts(Fact):
    """A retrieved passage; `weak` ones score below the retriever's floor and are no ground for an answer."""

    chunk_id: str
    document_id: str
    title: str
    text: str
    score: float
    slug: str = ""
    weak: bool = False


class SlotFacts(Fact):
    start: datetime
    end: datetime


class Turn(Fact):
    direction: str
    body: str


class Thresholds(Fact):
    """One version of the policy.

    `pursue`: a lead below this probability is nurtured, not offered a meeting. `escalate`: one at or above it
    goes to a person. `confidence`: a decision below it goes to a person. `evidence`: a passage scoring below it
    is no ground for an answer, whatever the retriever's own floor says.
    """

    pursue: float = Field(0.05, ge=0, le=1)
    escalate: float = Field(0.90, ge=0, le=1)
    confidence: float = Field(0.45, ge=0, le=1)
    evidence: float = Field(0.0, ge=0, le=1)


class DecisionInputs(Fact):
    """Everything that the model and the guardrails saw."""

    lead: LeadFacts
    message: str
    history: tuple[Turn, ...] = ()
    enrichment: Enrichment
    score: ScoreFacts
    passages: tuple[PassageFacts, ...] = ()
    slots: tuple[SlotFacts, ...] = ()
    thresholds: Thresholds
    findings: tuple[str, ...] = ()
    today: date

    @property
    def strong(self) -> tuple[PassageFacts, ...]:
        """The passages that an answer may rest on, best first."""
        return tuple(p for p in self.passages if not p.weak and p.score >= self.thresholds.evidence)
