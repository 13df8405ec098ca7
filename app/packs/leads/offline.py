"""The offline rule of `leads_decide`: decides by written rules, answers by quoting pages. It is not a language model.

The same facts give the same answer, always.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from app.agent.model import ModelRequest
from app.knowledge.language import Glossary, LanguageGuess, fold
from app.knowledge.quoting import Answer, Quote, Quoter
from app.packs.leads.enrich import primary
from app.packs.leads.facts import DecisionInputs
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.models import Action
from app.packs.leads.offline_rules import LATER, NOT_YET, RULES, VAGUE, Case, Rule
from app.packs.leads.replies import Letter, Replies
from app.packs.leads.schemas import LeadDecision
from app.packs.leads.signals import Signal

LEAST_COVERAGE = 0.26
_WORD = re.compile(r"\w+")
_UNKNOWN_COVERAGE = 0.5
_EVIDENCE_BASE, _PER_MARGIN, _PER_COVERAGE = 0.35, 0.35, 0.30
_PER_PHRASE, _MOST_PHRASES, _PER_CONFLICT = 0.03, 4, 0.10
_LOWEST, _HIGHEST = 0.05, 0.98
_DEFAULT_FOLLOW_UP_DAYS = 90
_SHORTEST_FOLLOW_UP, _LONGEST_FOLLOW_UP = 7, 365
_ASKING = frozenset({Signal.ASKS_PRICE, Signal.ASKS_PRODUCT, Signal.HAGGLING, Signal.RESELLER})


@dataclass(frozen=True, slots=True)
class _Choice:
    """A decision before its words."""

    action: Action
    confidence: float
    reason: str
    cites: bool = True
    letter: str = ""


class OfflineDecider:
    """An `OfflineRule` (see `app.agent.offline`): reads `request.facts`, a dump of `DecisionInputs`."""

    def __init__(self, lexicon: Lexicon, guess: LanguageGuess, quoter: Quoter, replies: Replies) -> None:
        self._lexicon = lexicon
        self._guess = guess
        self._quoter = quoter
        self._replies = replies

    def __call__(self, request: ModelRequest) -> str:
        """The JSON of a LeadDecision. Raises ValidationError for facts of another shape."""
        return self.decide(DecisionInputs.model_validate(request.facts)).model_dump_json()

    def decide(self, inputs: DecisionInputs) -> LeadDecision:
        """The first rule that holds decides; where none does, the evidence."""
        language = primary(inputs.enrichment.language)
        found = self._lexicon.phrases.find(inputs.message, {language, self._guess(inputs.message)})
        case = Case(inputs, self._lexicon.market, {signal: len(phrases) for signal, phrases in found.items()})
        answer = self._quoter.answer(inputs.message, language, inputs.strong, price=case.has(Signal.ASKS_PRICE))
        rule = next((rule for rule in RULES if rule.grounds(case)), None)
        choice = _by_rule(rule, case) if rule else _by_evidence(case, answer)
        return self._written(inputs, choice, answer, language)

    def _written(self, inputs: DecisionInputs, choice: _Choice, answer: Answer, language: str | None) -> LeadDecision:
        days = self._follow_up_days(inputs) if choice.action is Action.NURTURE else None
        quotes = _used(inputs, choice, answer)
        letter = self._letter(inputs, choice, quotes, language, days)
        cited = dict.fromkeys(quote.passage.chunk_id for quote in quotes)
        return LeadDecision(
            action=choice.action,
            confidence=round(choice.confidence, 2),
            reason=choice.reason[:1000],
            evidence=list(cited),
            subject=letter.subject,
            reply=letter.body,
            follow_up_days=days,
        )

    def _letter(
        self,
        inputs: DecisionInputs,
        choice: _Choice,
        quotes: tuple[Quote, ...],
        language: str | None,
        days: int | None,
    ) -> Letter:
        replies, name = self._replies, inputs.lead.name
        if choice.action is Action.RESPOND:
            return replies.respond(language, name, quotes)
        if choice.action is Action.SCHEDULE:
            return replies.schedule(language, name, quotes)
        if choice.letter == VAGUE:
            return replies.ask_back(language, name)
        if choice.letter == NOT_YET:
            return replies.not_yet(language, name)
        if choice.letter == LATER and days is not None:
            return replies.later(language, name, inputs.today + timedelta(days=days))
        return Letter("", "")

    def _follow_up_days(self, inputs: DecisionInputs) -> int:
        """Days until the month or season that the message names last; 90 where it names none."""
        calendar = self._lexicon.calendar
        month = last_month_named(inputs.message, calendar)
        if month is None:
            return _DEFAULT_FOLLOW_UP_DAYS
        today = inputs.today
        first = date(today.year + (month <= today.month), month, 1)
        return min(_LONGEST_FOLLOW_UP, max(_SHORTEST_FOLLOW_UP, (first - today).days))


def offline_decider() -> OfflineDecider:
    """The rule that the pack declares for its prompt, with the files that ship. Takes about 0.4 s to load."""
    lexicon, guess = Lexicon.load(), LanguageGuess.load()
    return OfflineDecider(lexicon, guess, Quoter(Glossary.load(), guess, lexicon.unimportant), Replies.load(guess))


def last_month_named(text: str, calendar: Mapping[str, Any]) -> int | None:
    """1 to 12: the last month or season in the text; names of up to three letters are left out as ambiguous."""
    months = {fold(name): number for number, row in enumerate(calendar["months"], 1) for name in row if len(name) > 3}
    seasons: dict[str, int] = {fold(name): number for name, number in calendar["seasons"].items()}
    named = {**months, **seasons}
    folded = fold(text)
    for word in reversed(_WORD.findall(folded)):
        if word in named:
            return named[word]
    return next((number for name, number in seasons.items() if not name.isascii() and name in folded), None)


def _used(inputs: DecisionInputs, choice: _Choice, answer: Answer) -> tuple[Quote, ...]:
    """What the letter quotes; for an escalation, what the colleague may want to read."""
    if choice.action is Action.SCHEDULE:
        return answer.quotes if inputs.enrichment.has(*_ASKING) else ()
    if choice.action is Action.RESPOND or (choice.action is Action.ESCALATE and choice.cites):
        return answer.quotes
    return ()


def _by_rule(rule: Rule, case: Case) -> _Choice:
    """Confidence: the rule's strength, more for further phrases of its signals, less for rules that say otherwise."""
    grounds = rule.grounds(case)
    phrases = sum(count for signal, count in case.strengths.items() if signal in grounds)
    extra = _PER_PHRASE * min(_MOST_PHRASES, max(0, phrases - 1))
    against = [other for other in RULES if other.action is not rule.action and other.grounds(case)]
    confidence = rule.strength + extra - _PER_CONFLICT * len(against)
    # The signals stand beside the reason on the decision; what is no signal is told here.
    told = [ground for ground in grounds if ground not in set(Signal)]
    reason = f"{rule.because} ({', '.join(told)})." if told else f"{rule.because}."
    if against:
        reason += f" Against it: {'; '.join(other.because for other in against[:3])}."
    return _Choice(rule.action, _bounded(confidence), reason, rule.cites, rule.letter)


def _by_evidence(case: Case, answer: Answer) -> _Choice:
    """Confidence: how far the best passage is above the threshold, and how many of the asked words the pages know."""
    threshold = case.inputs.thresholds.evidence
    if not answer.quotes:
        return _Choice(Action.ESCALATE, 0.7, "No passage is strong enough to answer the message.", cites=False)
    if answer.coverage is not None and answer.coverage < LEAST_COVERAGE:
        reason = f"The passages know only {answer.coverage:.0%} of the words of the question: they do not answer it."
        return _Choice(Action.ESCALATE, _bounded(0.85 - answer.coverage), reason)
    best = max(passage.score for passage in case.inputs.strong)
    margin = (best - threshold) / (1 - threshold) if threshold < 1 else 0.0
    coverage = _UNKNOWN_COVERAGE if answer.coverage is None else answer.coverage
    confidence = _EVIDENCE_BASE + _PER_MARGIN * margin + _PER_COVERAGE * coverage
    titles = dict.fromkeys(f"{quote.passage.title} ({quote.passage.score:.2f})" for quote in answer.quotes)
    reason = f"The pages answer the message: {', '.join(titles)}."
    return _Choice(Action.RESPOND, _bounded(confidence), reason)


def _bounded(confidence: float) -> float:
    return min(_HIGHEST, max(_LOWEST, confidence))
