"""The score's floor: rules that a person wrote, for a tenant whose leads have no outcomes yet.

A rule that holds adds its log-odds to the baseline, so rules answer in the same `Score` as the learned model and
are explained the same way. The figures are judgements, not fits.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from app.packs.leads.scoring.features import Attributes, as_level, as_number, shown
from app.packs.leads.scoring.model import Contribution, Score, explain

Test = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """`log_odds` is added where `holds` is true of the attribute `reads`."""

    name: str
    reads: str
    holds: Test
    log_odds: float


@dataclass(frozen=True, slots=True)
class SignalRule:
    """`log_odds` is added where the message shows the signal."""

    name: str
    signal: str
    log_odds: float


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules on top of the conversion rate (`prior`, 0 to 1) assumed for a lead of whom nothing is known."""

    prior: float
    rules: tuple[Rule, ...]
    signals: tuple[SignalRule, ...] = ()

    def score(self, attributes: Attributes, signals: Mapping[str, bool] | None = None) -> Score:
        """Score one lead; what no rule reads is ignored, wrong types make a rule not hold."""
        flags = signals or {}
        values = ((rule, attributes.get(rule.reads)) for rule in self.rules)
        parts = [Contribution(rule.name, shown(value), rule.log_odds) for rule, value in values if rule.holds(value)]
        parts += [
            Contribution(rule.name, "yes", rule.log_odds) for rule in self.signals if flags.get(rule.signal) is True
        ]
        return explain(math.log(self.prior / (1 - self.prior)), parts)


def within(low: float = -math.inf, high: float = math.inf) -> Test:
    """The value reads as a number in [low, high)."""

    def holds(value: object) -> bool:
        number = as_number(value)
        return number is not None and low <= number < high

    return holds


def one_of(levels: Iterable[str]) -> Test:
    """The value is one of these, case and spacing aside."""
    wanted = frozenset(as_level(level) for level in levels)
    return lambda value: (level := as_level(value)) is not None and level in wanted


def mentions(words: Iterable[str]) -> Test:
    """One of these words stands in the text as a whole word."""
    wanted = frozenset(word.casefold() for word in words)
    return lambda value: isinstance(value, str) and not wanted.isdisjoint(re.findall(r"\w+", value.casefold()))


def given(value: object) -> bool:
    """The value is there and is not blank."""
    return as_level(value) is not None


_DECIDERS = frozenset(
    {
        "ceo",
        "cto",
        "cfo",
        "coo",
        "cio",
        "cmo",
        "ciso",
        "chief",
        "founder",
        "cofounder",
        "owner",
        "president",
        "partner",
        "vp",
        "svp",
        "evp",
        "director",
        "head",
        "geschäftsführer",
        "geschäftsführerin",
        "inhaber",
        "inhaberin",
        "leiter",
        "leiterin",
        "directeur",
        "directrice",
        "gérant",
        "gérante",
        "directora",
        "dueño",
        "gerente",
        "diretor",
        "diretora",
        "titolare",
        "direttore",
        "direttrice",
        "eigenaar",
        "dyrektor",
    }
)
_INFLUENCERS = frozenset(
    {
        "manager",
        "lead",
        "principal",
        "architect",
        "procurement",
        "buyer",
        "einkauf",
        "einkäufer",
        "responsable",
        "responsabile",
    }
)
_JUNIORS = frozenset(
    {
        "student",
        "intern",
        "trainee",
        "apprentice",
        "pupil",
        "praktikant",
        "praktikantin",
        "stagiaire",
        "estudiante",
        "studente",
    }
)


def lead_rules(target_industries: Iterable[str] = ()) -> RuleSet:
    """Rules for a business lead.

    Attributes read: `employees`, `budget_usd`, `role`, `industry`, `company`, `phone`, `source`. Signals read (true
    or absent): `wants_meeting`, `asks_price`, `has_deadline`, `asks_product`, `not_now`, `unsubscribe`, `spam`,
    `job_seeker`, `student`, `competitor`.

    Args:
        target_industries: industries that the tenant sells to; empty: the industry says nothing.
    """
    rules = (
        Rule("company of 1,000 people or more", "employees", within(1000), 0.9),
        Rule("company of 100 to 999 people", "employees", within(100, 1000), 0.6),
        Rule("company of fewer than 5 people", "employees", within(high=5), -0.5),
        Rule("budget of $50,000 or more", "budget_usd", within(50_000), 1.0),
        Rule("budget of $5,000 to $49,999", "budget_usd", within(5_000, 50_000), 0.5),
        Rule("budget below $500", "budget_usd", within(high=500), -0.8),
        Rule("can decide", "role", mentions(_DECIDERS), 0.7),
        Rule("can recommend", "role", mentions(_INFLUENCERS), 0.3),
        Rule("studies or trains", "role", mentions(_JUNIORS), -1.2),
        Rule("industry served", "industry", one_of(target_industries), 0.5),
        Rule("names a company", "company", given, 0.3),
        Rule("names no company", "company", lambda value: not given(value), -0.4),
        Rule("gives a phone number", "phone", given, 0.3),
        Rule("was referred", "source", one_of(("referral", "partner")), 0.8),
        Rule("came by itself", "source", one_of(("web_form", "email")), 0.2),
        Rule("from a bought or imported list", "source", one_of(("import", "list")), -0.5),
    )
    return RuleSet(prior=0.1, rules=rules, signals=_MESSAGE_SIGNALS)


_MESSAGE_SIGNALS = (
    SignalRule("asks for a meeting", "wants_meeting", 1.2),
    SignalRule("asks for the price", "asks_price", 0.7),
    SignalRule("has a deadline", "has_deadline", 0.6),
    SignalRule("asks about the product", "asks_product", 0.3),
    SignalRule("not now", "not_now", -0.8),
    SignalRule("looks for work", "job_seeker", -2.5),
    SignalRule("studies", "student", -1.5),
    SignalRule("competes with us", "competitor", -2.0),
    SignalRule("wants no messages", "unsubscribe", -4.0),
    SignalRule("sells or spams", "spam", -4.0),
)
