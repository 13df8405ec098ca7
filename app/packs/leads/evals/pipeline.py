"""A lead's way to its verdict without a database row or a write: enrich, score, retrieve, decide, guard."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.integrations.hours import BusinessHours, free_slots
from app.knowledge.base import Passage
from app.knowledge.language import LanguageGuess
from app.knowledge.retrieve import Retriever
from app.packs.leads.enrich import Enricher
from app.packs.leads.evals.cases import Case
from app.packs.leads.evals.knowledge import TENANT
from app.packs.leads.facts import DecisionInputs, Enrichment, SlotFacts, Thresholds
from app.packs.leads.gather import EVIDENCE, QUERY_CHARACTERS, lead_facts, passage_facts
from app.packs.leads.guardrails import Verdict, judge
from app.packs.leads.lexicon import Lexicon
from app.packs.leads.models import Action, Lead
from app.packs.leads.offline import offline_decider
from app.packs.leads.scores import score_with
from app.packs.leads.scoring.rules import lead_rules
from app.packs.leads.screening import orders_to_the_agent
from app.packs.leads.tools import BOT, DAYS_AHEAD, MEETING_MINUTES

ZONE = "Europe/Berlin"
_SLOTS = 6


@dataclass(frozen=True, slots=True)
class Judged:
    """What the agent made of a case. `own_ms` is its time without the search for evidence."""

    case: Case
    inputs: DecisionInputs
    verdict: Verdict
    retrieved: tuple[str, ...]
    cited: frozenset[str]
    own_ms: float

    @property
    def action(self) -> Action:
        return self.verdict.action


class Pipeline:
    """The agent's parts as the pack wires them, with the offline model and the rules' score."""

    def __init__(self, retriever: Retriever, now: datetime, thresholds: Thresholds | None = None) -> None:
        self._retriever = retriever
        self._now = now
        self._thresholds = thresholds or Thresholds()
        self._enrich = Enricher(Lexicon.load(), LanguageGuess.load(), ZONE)
        self._decider = offline_decider()
        self._rules = lead_rules()
        self._hours = BusinessHours(ZONE)

    async def judge(self, case: Case) -> Judged:
        message = case.lead.message
        passages = await self._retriever.search(TENANT, BOT, message[:QUERY_CHARACTERS], limit=EVIDENCE)
        started = time.perf_counter()
        inputs = self.inputs(case, passages)
        verdict = judge(inputs, self._decider.decide(inputs))
        own_ms = (time.perf_counter() - started) * 1000
        slugs = {passage.chunk_id: passage.slug for passage in inputs.passages}
        cited = frozenset(slugs[chunk_id] for chunk_id in verdict.evidence)
        return Judged(case, inputs, verdict, tuple(passage.slug for passage in passages), cited, own_ms)

    def inputs(self, case: Case, passages: list[Passage]) -> DecisionInputs:
        """The facts that the agent would gather for the case's first message."""
        lead = Lead(id=case.name, **case.lead.model_dump(exclude={"message"}))
        message = case.lead.message
        enrichment = self._enrich(message=message, email=lead.email, language=lead.language, now=self._now)
        return DecisionInputs(
            lead=lead_facts(lead),
            message=message,
            enrichment=enrichment,
            score=score_with(None, self._rules, lead, enrichment),
            passages=tuple(map(passage_facts, passages)),
            slots=self._slots(enrichment),
            thresholds=self._thresholds,
            findings=orders_to_the_agent(message, lead_facts(lead)),
            today=self._now.date(),
        )

    def _slots(self, enrichment: Enrichment) -> tuple[SlotFacts, ...]:
        if not enrichment.has("wants_meeting"):
            return ()
        first, last = self._now + timedelta(days=1), self._now + timedelta(days=1 + DAYS_AHEAD)
        free = free_slots(self._hours, (), first, last, MEETING_MINUTES, _SLOTS)
        return tuple(SlotFacts(start=slot.start, end=slot.end) for slot in free)
