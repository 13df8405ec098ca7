"""The recommendation agent: what may be done for each customer of a chunk, at what chance, and what it would bring.

The model judges profiles, which alike customers share; money is computed here, for each customer:

    value = (chance - chance of success without it) x worth x gain        net = value - cost

Assumed: a success without treatment brings the same as one with it; where no case of customers who were left alone is
known, nothing comes of itself; and a profile's answer does not depend on the others in its call. Proposals that are
not worth their cost are not made; the kept answer still has them.

A customer is answered by rule, without a model, where no treatment is allowed, or where none would pay off even if it
surely succeeded.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
from cachetools import LRUCache

from app.pack import Kit
from app.packs.treatments.answers import Answered, AnswerStore, Origin, UnderWay
from app.packs.treatments.batching import ROUTE, TOKENS_A_SECOND, Answers, Batcher, Limits, Question
from app.packs.treatments.cases import NOTHING, Cases
from app.packs.treatments.catalogue import CatalogueIn, Treatment
from app.packs.treatments.pace import Pace
from app.packs.treatments.profiles import PlainWords, Profile, profile_of
from app.packs.treatments.rates import Look, Rate
from app.packs.treatments.stages import (
    Journey,
    Proposal,
    RecommendationAnswered,
    RecommendationAsked,
    Recommended,
    SetAside,
    Spent,
)
from app.packs.treatments.versions import Catalogues
from app.principal import worker

PROMPT: Final = "treatments_propose"
STAGE: Final = "recommendation"
_KEPT_RUNS: Final = 1_000
_FAILED: Final = "asked alone, no usable answer came: "


@dataclass(slots=True)
class Chunk:
    """A message on its way to its answer. `keys` are by customer id, `profiles` and the answers by key. `sources` says
    of each key where its answer came from (a label of the metric)."""

    asked: RecommendationAsked
    catalogue: CatalogueIn
    keys: dict[str, str] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)
    answers: dict[str, Answered] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def open(self) -> list[str]:
        return [key for key in self.profiles if key not in self.answers and key not in self.failed]


class RecommendationStage:
    """Handles `stages.RECOMMENDATION`. Safe to be given the same message twice: answers are kept."""

    def __init__(self, kit: Kit) -> None:
        settings = kit.settings
        self._kit = kit
        self._words = PlainWords()
        self._cases = Cases(kit.ports.db)
        self._store = AnswerStore(kit.ports.db, kit.ports.clock)
        self._under_way = UnderWay()
        limits = Limits(
            profiles=settings.treatments_batch,
            calls=settings.treatments_calls,
            deadline_s=settings.decision_deadline_s,
            answer_tokens=round(settings.model_timeout_s * TOKENS_A_SECOND),
        )
        self._batcher = Batcher(kit.agent, kit.metrics, limits, Pace(settings.treatments_tokens_per_minute))
        self._catalogues = Catalogues(kit)
        self._untold: LRUCache[tuple[str, str], Spent] = LRUCache(_KEPT_RUNS)

    async def handle(self, asked: RecommendationAsked) -> RecommendationAnswered:
        """Every journey comes back once, recommended or set aside.

        What a message that failed had spent is told with the run's next one; a process that dies in between forgets
        it, though the tenant's budget does not.

        Raises BudgetExceeded, DeadlineExceeded or ModelUnavailable; what was answered by then is kept.
        """
        chunk = Chunk(asked, await self._catalogues.content(asked.tenant_id, asked.catalogue_version))
        await self._profile(chunk)
        while waiting := chunk.open:
            mine = self._under_way.claim(asked.tenant_id, waiting)
            try:
                await self._answer(chunk, mine)
            finally:
                self._under_way.done(asked.tenant_id, mine)
            await self._under_way.wait(asked.tenant_id, chunk.open)
        return self._told(chunk)

    async def _profile(self, chunk: Chunk) -> None:
        """Gives each journey that the model is to be asked about its profile and key."""
        journeys = [journey for journey in chunk.asked.journeys if journey.allowed]
        bases = {treatment.name: treatment.base_chance for treatment in chunk.catalogue.treatments}
        looks = [Look(journey.fingerprint, journey.vector) for journey in journeys]
        rates = await self._cases.near(chunk.asked.tenant_id, looks, bases | {NOTHING: 0.0}) if looks else {}
        rests_on = self._rests_on(chunk.catalogue)
        for journey in journeys:
            profile = self._profile_of(journey, rates[journey.fingerprint], chunk.catalogue)
            if worth_asking(journey, profile, chunk.catalogue):
                key = chunk.keys[journey.customer_id] = profile.key(rests_on)
                chunk.profiles[key] = profile

    def _profile_of(self, journey: Journey, rates: Mapping[str, Rate], catalogue: CatalogueIn) -> Profile:
        allowed = {one.name: rates[one.name] for one in catalogue.treatments if one.name in journey.allowed}
        return profile_of(self._words, journey, allowed, rates[NOTHING])

    def _rests_on(self, catalogue: CatalogueIn) -> str:
        """All that an answer rests on beside its profile. A new version of the catalogue that tells the model nothing
        new, such as another capacity, leaves the answers good."""
        prompt = self._kit.prompts.get(PROMPT)
        parts = [prompt.name, prompt.version, prompt.digest, self._kit.agent.identity(ROUTE), described(catalogue)]
        return orjson.dumps(parts).decode()

    async def _answer(self, chunk: Chunk, keys: Sequence[str]) -> None:
        """Finds the answers of the keys, and asks for those that are not there."""
        known = await self._store.known(chunk.asked.tenant_id, keys)
        chunk.answers |= known
        chunk.sources |= dict.fromkeys(known, "shared")
        missing = {key: chunk.profiles[key] for key in keys if key not in known}
        if missing:
            await self._ask(chunk, missing)

    async def _ask(self, chunk: Chunk, profiles: Mapping[str, Profile]) -> None:
        asked, prompt = chunk.asked, self._kit.prompts.get(PROMPT)

        async def keep(answers: Answers) -> None:
            origin = Origin(prompt.version, asked.catalogue_version, answers.model, answers.provider)
            chunk.answers |= await self._store.keep(asked.tenant_id, profiles, answers.proposals, origin)
            chunk.sources |= dict.fromkeys(answers.proposals, "split" if answers.split else "model")

        principal, catalogue = worker(asked.tenant_id), described(chunk.catalogue)
        question = Question(principal, asked.run_id, prompt, catalogue, profiles, keep)
        try:
            await self._batcher.ask(question)
        finally:
            self._spend(asked, Spent(question.calls, question.tally.tokens, question.tally.cost_micros))
        chunk.failed |= question.failed

    def _spend(self, asked: RecommendationAsked, spent: Spent) -> None:
        run = (asked.tenant_id, asked.run_id)
        before = self._untold.get(run, Spent())
        self._untold[run] = Spent(
            before.model_calls + spent.model_calls,
            before.tokens + spent.tokens,
            before.cost_micros + spent.cost_micros,
        )

    def _told(self, chunk: Chunk) -> RecommendationAnswered:
        recommended: list[Recommended] = []
        aside: list[SetAside] = []
        sources: Counter[str] = Counter()
        for journey in chunk.asked.journeys:
            key = chunk.keys.get(journey.customer_id)
            if key is not None and key in chunk.failed:
                aside.append(SetAside(journey.customer_id, STAGE, f"{_FAILED}{chunk.failed[key]}"))
                sources["set_aside"] += 1
                continue
            # Who comes first with a key had it asked for; the others of the chunk share that answer.
            source = "rule" if key is None else chunk.sources[key]
            recommended.append(_recommended(journey, chunk, key, shared=source == "shared"))
            sources[source] += 1
            if key is not None:
                chunk.sources[key] = "shared"
        self._count(sources)
        spent = self._untold.pop((chunk.asked.tenant_id, chunk.asked.run_id), Spent())
        return RecommendationAnswered(
            recommended,
            aside,
            Spent(spent.model_calls, spent.tokens, spent.cost_micros, shared_answers=sources["shared"]),
        )

    def _count(self, sources: Mapping[str, int]) -> None:
        for source, customers in sources.items():
            self._kit.metrics.treatments_answers.labels(source).inc(customers)


def described(catalogue: CatalogueIn) -> str:
    """The treatments as the model is told of them: no cost, for money is not its part."""
    return "\n".join(
        f"  - {one.name}: {one.title}{f' (by {one.channel})' if one.channel else ''}" for one in catalogue.treatments
    )


def worth_asking(journey: Journey, profile: Profile, catalogue: CatalogueIn) -> bool:
    """Whether some treatment would pay off if it surely succeeded."""
    treatments = (catalogue.treatment(name) for name in profile.options)
    return any(value_micros(journey, one, 1.0, profile.without.chance) > one.cost_micros for one in treatments)


def value_micros(journey: Journey, treatment: Treatment, chance: float, without: float) -> int:
    """What the treatment is expected to bring more than leaving the customer alone, in micro-USD, before its cost."""
    return round((chance - without) * treatment.gain * journey.worth_micros)


def _recommended(journey: Journey, chunk: Chunk, key: str | None, *, shared: bool) -> Recommended:
    if key is None:
        return Recommended(journey.customer_id, [], "", shared=False)
    answer = chunk.answers[key]
    proposals = _proposals(journey, chunk, key, answer)
    return Recommended(journey.customer_id, list(proposals), answer.id, shared)


def _proposals(journey: Journey, chunk: Chunk, key: str, answer: Answered) -> Iterable[Proposal]:
    """Those that are worth their cost, best first; among equals the one that comes first in the alphabet."""
    without = chunk.profiles[key].without.chance
    made: list[Proposal] = []
    for one in answer.proposals:
        treatment = chunk.catalogue.treatment(one.treatment)
        value = value_micros(journey, treatment, one.chance, without)
        made.append(Proposal(one.treatment, one.chance, value, treatment.cost_micros, one.reason))
    worthwhile = [proposal for proposal in made if proposal.net_micros > 0]
    return sorted(worthwhile, key=lambda proposal: (-proposal.net_micros, proposal.treatment))
