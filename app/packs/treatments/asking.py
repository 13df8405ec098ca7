"""Asks the agents, one after the other, about a part of a run's customers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.messages.base import Answered, Asked, Messenger, Topic
from app.packs.treatments.deciding import (
    Decided,
    control,
    held_back,
    recommended,
    set_aside,
    unspoken,
    without_options,
)
from app.packs.treatments.models import Run
from app.packs.treatments.stages import (
    DATA,
    JOURNEY,
    RECOMMENDATION,
    DataAsked,
    Journey,
    JourneyAsked,
    RecommendationAnswered,
    RecommendationAsked,
    Spent,
)
from app.telemetry.spans import span

STAGE: Final = "treatments.stage"
QUICK_S: Final = 120.0
MODEL_S: Final = 900.0
"""A model may answer a whole chunk in several calls, each of which may be tried again."""


@dataclass(frozen=True, slots=True)
class Part:
    """Customers of a run: `ids`, all that are there after `after_id` up to `until_id`."""

    after_id: str
    until_id: str
    ids: Sequence[str]

    def halves(self) -> tuple["Part", "Part"]:
        """Of at least two customers."""
        middle = len(self.ids) // 2
        last = self.ids[middle - 1]
        return Part(self.after_id, last, self.ids[:middle]), Part(last, self.until_id, self.ids[middle:])


class Asking:
    def __init__(self, messenger: Messenger) -> None:
        self._messenger = messenger

    async def about(self, run: Run, part: Part) -> Decided:
        """One result for each customer of the part. Raises what an agent raised, and NoAnswer."""
        data = await self.ask(DATA, DataAsked(run.tenant_id, run.id, part.after_id, part.until_id), run, QUICK_S)
        rows = [set_aside(one) for one in data.set_aside]
        journeys: list[Journey] = []
        if data.histories:
            asked = JourneyAsked(run.tenant_id, run.id, run.as_of, run.catalogue_version, data.histories)
            answered = await self.ask(JOURNEY, asked, run, QUICK_S)
            rows += [set_aside(one) for one in answered.set_aside]
            journeys = answered.journeys
        control_group = [journey for journey in journeys if held_back(run, journey.customer_id)]
        held = {journey.customer_id for journey in control_group}
        rows += [control(run, journey) for journey in control_group]
        rows += [without_options(one) for one in journeys if not one.allowed and one.customer_id not in held]
        asked_of = [journey for journey in journeys if journey.allowed and journey.customer_id not in held]
        answer = await self._recommended(run, asked_of)
        by_id = {journey.customer_id: journey for journey in asked_of}
        rows += [recommended(by_id[one.customer_id], one) for one in answer.recommended]
        rows += [set_aside(one, by_id.get(one.customer_id)) for one in answer.set_aside]
        return Decided(rows + unspoken(part.ids, rows), answer.spent)

    async def _recommended(self, run: Run, journeys: list[Journey]) -> RecommendationAnswered:
        if not journeys:
            return RecommendationAnswered([], [], Spent())
        asked = RecommendationAsked(run.tenant_id, run.id, run.catalogue_version, journeys)
        return await self.ask(RECOMMENDATION, asked, run, MODEL_S)

    async def ask(self, topic: Topic[Asked, Answered], message: Asked, run: Run, timeout_s: float) -> Answered:
        with span(STAGE, {"trellis.stage": topic.name, "trellis.run": run.id}):
            return await self._messenger.ask(topic, message, key=run.id, timeout_s=timeout_s)
