"""The recommendation agent under test: a scripted model, the house's own agent around it, journeys made by hand."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import orjson
from sqlalchemy import insert, select

from app.agent.budget_store import DailyCaps
from app.agent.model import ModelReply, ModelRequest, Usage
from app.agent.prompts import PromptLibrary
from app.governance.audit import Audit
from app.ids import new_id
from app.packs.treatments.catalogue import CatalogueIn
from app.packs.treatments.fingerprint import fingerprint_of, vector_of
from app.packs.treatments.models import Case, Catalogue, ModelAnswer
from app.packs.treatments.pack import ROOT
from app.packs.treatments.recommendation import RecommendationStage
from app.packs.treatments.stages import Journey, RecommendationAnswered, RecommendationAsked
from app.storage.base import MICROS
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.agents import Room, ScriptedModel, Step, build_room

TENANT = "acme"
CATALOGUE = {
    "treatments": [
        {"name": "call_back", "title": "Call back", "cost_usd": 4, "base_chance": 0.1},
        {"name": "email", "title": "An e-mail", "cost_usd": 0.01, "gain": 0.5, "base_chance": 0.02},
    ]
}


@dataclass
class Desk:
    """A stage ready to be asked; `model` keeps what it was asked."""

    db: Database
    clock: StillClock
    stage: RecommendationStage
    model: ScriptedModel
    room: Room
    kit: Any

    async def ask(self, *journeys: Journey, run_id: str = "run_1", tenant_id: str = TENANT) -> RecommendationAnswered:
        return await self.stage.handle(RecommendationAsked(tenant_id, run_id, 1, list(journeys)))

    async def cases(self, *counts: tuple[Mapping[str, str], str, int, int], tenant_id: str = TENANT) -> None:
        """Traits, treatment, trials, successes."""
        rows = [_case(tenant_id, self.clock, *count) for count in counts]
        async with self.db.operator_transaction() as session:
            await session.execute(insert(Case), rows)

    async def answers(self) -> Sequence[ModelAnswer]:
        async with self.db.operator_reading() as session:
            return (await session.scalars(select(ModelAnswer).order_by(ModelAnswer.id))).all()

    def shown(self) -> list[list[dict[str, Any]]]:
        """The profiles of each call, as the messages have them."""
        return [profiles_in(request) for request in self.model.asked]

    def counted(self, source: str) -> float:
        return self.room.count("treatments_answers_total", source=source)


def _case(
    tenant_id: str, clock: StillClock, traits: Mapping[str, str], treatment: str, trials: int, successes: int
) -> dict[str, Any]:
    return {
        "id": new_id("case"),
        "tenant_id": tenant_id,
        "created_at": clock(),
        "updated_at": clock(),
        "fingerprint": fingerprint_of(traits),
        "treatment": treatment,
        "vector": vector_of(traits),
        "trials": trials,
        "successes": successes,
    }


def profiles_in(request: ModelRequest) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in request.messages[-1].content.splitlines() if line.startswith('{"profile"')]


@asynccontextmanager
async def desk(
    db: Database,
    clock: StillClock,
    *script: Step,
    catalogue: Mapping[str, Any] = CATALOGUE,
    tenants: Iterable[str] = (TENANT,),
    caps: DailyCaps = DailyCaps(),  # noqa: B008 - frozen
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A stage over the script's model, which answers everything with half a chance where there is no script."""
    model = ScriptedModel(*(script or (answering(),)))
    room = build_room(db, clock, model, caps=caps)
    known = {
        "treatments_batch": 25,
        "treatments_calls": 4,
        "treatments_tokens_per_minute": None,
        "decision_deadline_s": 5.0,
        "model_timeout_s": 30.0,
    }
    kit: Any = SimpleNamespace(
        settings=SimpleNamespace(**known | settings),
        ports=SimpleNamespace(db=db, clock=clock),
        metrics=room.metrics,
        audit=Audit(clock, room.metrics),
        prompts=PromptLibrary.load([ROOT / "prompts"], fence_key=b"k"),
        agent=room.agent,
    )
    async with db.operator_transaction() as session:
        content = CatalogueIn.model_validate(catalogue).model_dump(mode="json")
        rows = [_version(tenant_id, content, clock) for tenant_id in tenants]
        await session.execute(insert(Catalogue), rows)
    try:
        yield Desk(db, clock, RecommendationStage(kit), model, room, kit)
    finally:
        await room.budgets.stop()


def _version(tenant_id: str, content: Any, clock: StillClock) -> dict[str, Any]:
    about = {"id": new_id("catalogue"), "tenant_id": tenant_id, "created_at": clock(), "created_by": "test"}
    return {**about, "version": 1, "content": content}


def journey(
    customer_id: str = "c1", *, worth_usd: float = 1_000.0, allowed: Iterable[str] = ("call_back", "email"), **of: str
) -> Journey:
    """`of` are its traits."""
    traits = {"trend": "rising", **of}
    return Journey(
        customer_id=customer_id,
        fair_group="",
        worth_micros=round(worth_usd * MICROS),
        features={},
        traits=traits,
        fingerprint=fingerprint_of(traits),
        vector=vector_of(traits),
        seen={},
        allowed=list(allowed),
        refused={},
    )


def journeys(number: int, **settings: Any) -> list[Journey]:
    """No two alike."""
    return [journey(f"c{place}", work=f"trade {place}", **settings) for place in range(number)]


def proposal(treatment: str = "call_back", chance: Any = 0.5, reason: str = "likes calls") -> dict[str, Any]:
    return {"treatment": treatment, "chance": chance, "reason": reason}


def written(answers: Iterable[tuple[int, list[dict[str, Any]]]]) -> str:
    return orjson.dumps({"answers": [{"profile": number, "proposals": made} for number, made in answers]}).decode()


def answering(
    propose: Callable[[dict[str, Any]], list[dict[str, Any]] | None] | None = None,
    *,
    finish_reason: str = "stop",
    usage: Usage = Usage(100, 20),  # noqa: B008 - frozen
) -> Any:
    """A model that answers each profile by `propose`, or leaves it out (None)."""
    judge = propose or (lambda profile: [proposal(name) for name in profile["cases"]])

    async def answer(request: ModelRequest) -> ModelReply:
        found = [(profile["profile"], judge(profile)) for profile in profiles_in(request)]
        text = written((number, made) for number, made in found if made is not None)
        return ModelReply(text, (), usage, "script-1-2026", finish_reason, 0.001)

    return answer
