"""The offline model's rules, first things first: the first one that holds decides."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.packs.leads.facts import DecisionInputs
from app.packs.leads.lexicon import Market
from app.packs.leads.models import Action
from app.packs.leads.scoring.features import as_number
from app.packs.leads.signals import Signal

VAGUE, LATER, NOT_YET = "vague", "later", "not_yet"
LARGE_BUDGET_USD = 100_000
_ASKING = (Signal.ASKS_PRICE, Signal.ASKS_PRODUCT, Signal.HAGGLING, Signal.RESELLER)


@dataclass(frozen=True, slots=True)
class Case:
    """One message with what is known of it; `strengths` counts the different phrases that show each signal."""

    inputs: DecisionInputs
    market: Market
    strengths: Mapping[Signal, int]

    def has(self, *signals: Signal) -> bool:
        return self.inputs.enrichment.has(*signals)

    def shown(self, *signals: Signal) -> tuple[str, ...]:
        return tuple(signal for signal in self.inputs.enrichment.signals if signal in signals)


Grounds = Callable[[Case], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Rule:
    """`grounds` names what the rule rests on, empty where it does not hold. `strength` is its confidence (0 to 1)
    where nothing speaks against it. `letter` is the template of a nurturing reply; without one none is sent. An
    escalation that `cites` shows the colleague what the pages say.
    """

    action: Action
    grounds: Grounds
    strength: float
    because: str
    cites: bool = True
    letter: str = ""


def shows(*signals: Signal, unless: tuple[Signal, ...] = ()) -> Grounds:
    return lambda case: () if case.has(*unless) else case.shown(*signals)


def _findings(case: Case) -> tuple[str, ...]:
    return case.inputs.findings


def _large(case: Case) -> tuple[str, ...]:
    budget = as_number(case.inputs.lead.attributes.get("budget_usd"))
    rich = budget is not None and budget >= LARGE_BUDGET_USD
    return case.shown(Signal.LARGE_DEAL) or (("budget_usd",) if rich else ())


def _not_served(case: Case) -> tuple[str, ...]:
    country = case.inputs.lead.country
    applied = (country or "").upper() in case.market.applied
    return () if case.market.serves(country) or applied else (f"country {country}",)


def _applied(case: Case) -> tuple[str, ...]:
    country = (case.inputs.lead.country or "").upper()
    return (f"country {country}",) if country in case.market.applied else ()


def _meeting(case: Case) -> tuple[str, ...]:
    return case.shown(Signal.WANTS_MEETING)


def _not_now(case: Case) -> tuple[str, ...]:
    """A wish with a time, and a question about the price, weigh more than "not now"."""
    if case.inputs.enrichment.wished or case.has(Signal.ASKS_PRICE):
        return ()
    return case.shown(Signal.NOT_NOW)


def _fresh_vague(case: Case) -> tuple[str, ...]:
    return () if case.inputs.history else case.shown(Signal.VAGUE)


def _vague_reply(case: Case) -> tuple[str, ...]:
    return case.shown(Signal.VAGUE) if case.inputs.history else ()


def _silent_import(case: Case) -> tuple[str, ...]:
    return ("source import",) if case.inputs.lead.source == "import" and not case.has(*_ASKING) else ()


RULES: tuple[Rule, ...] = (
    Rule(Action.ESCALATE, _findings, 0.95, "The message carries instructions to the agent", cites=False),
    Rule(Action.DISQUALIFY, shows(Signal.AUTOREPLY), 0.88, "It is an automatic reply"),
    Rule(Action.DISQUALIFY, shows(Signal.SPAM), 0.82, "Somebody wants to sell to us or to trick us"),
    Rule(Action.ESCALATE, shows(Signal.ABUSIVE), 0.80, "Insults or threats: a person judges them"),
    Rule(
        Action.DISQUALIFY,
        shows(Signal.WRONG_ADDRESS, unless=(Signal.EXISTING_CUSTOMER,)),
        0.65,
        "The message is meant for somebody else",
    ),
    Rule(Action.ESCALATE, shows(Signal.OUTAGE), 0.88, "Something does not work at a customer's"),
    Rule(Action.ESCALATE, shows(Signal.SECURITY_REPORT), 0.85, "Somebody reports a weakness"),
    Rule(Action.ESCALATE, shows(Signal.PAYMENT_DATA), 0.85, "The message holds payment data, which must be removed"),
    Rule(Action.ESCALATE, shows(Signal.LEGAL), 0.85, "A legal matter"),
    Rule(Action.ESCALATE, shows(Signal.ERASURE), 0.85, "A request about personal data"),
    Rule(Action.ESCALATE, shows(Signal.PRESS), 0.80, "The press asks"),
    Rule(Action.ESCALATE, shows(Signal.TENDER), 0.82, "A tender or terms of contract"),
    Rule(Action.ESCALATE, shows(Signal.COMPLAINT), 0.78, "A complaint"),
    Rule(Action.DISQUALIFY, shows(Signal.MINOR), 0.75, "The writer is under age"),
    Rule(Action.DISQUALIFY, shows(Signal.COMPETITOR), 0.75, "A competitor asks"),
    Rule(Action.DISQUALIFY, shows(Signal.JOB_SEEKER), 0.80, "Somebody looks for work or offers people"),
    Rule(Action.DISQUALIFY, shows(Signal.STUDENT), 0.75, "A study, not a purchase"),
    Rule(Action.DISQUALIFY, shows(Signal.UNSUBSCRIBE), 0.85, "The person wants no more messages"),
    Rule(Action.DISQUALIFY, shows(Signal.NOT_SERVED), 0.78, "We do not sell there or for that"),
    Rule(Action.DISQUALIFY, _not_served, 0.75, "We do not sell in that country"),
    Rule(Action.NURTURE, _applied, 0.70, "We may sell in that country later", letter=NOT_YET),
    Rule(Action.ESCALATE, _large, 0.78, "A deal of this size is for a person"),
    Rule(Action.NURTURE, _not_now, 0.75, "Interested, but not now", letter=LATER),
    Rule(Action.SCHEDULE, _meeting, 0.80, "The person wants to meet"),
    Rule(Action.ESCALATE, shows(Signal.READY_TO_BUY, unless=_ASKING), 0.75, "An order: a person takes it"),
    Rule(Action.ESCALATE, _vague_reply, 0.60, "A short answer to an earlier message: a person reads on"),
    Rule(Action.NURTURE, _fresh_vague, 0.70, "The message says nothing yet: we ask back", letter=VAGUE),
    Rule(Action.NURTURE, _silent_import, 0.60, "An imported contact that asks nothing"),
)
