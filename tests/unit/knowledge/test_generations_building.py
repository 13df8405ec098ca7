"""The job that fills a generation: interrupted anywhere, it ends complete and embeds nothing twice."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.errors import Unavailable
from app.jobs.port import StepFailed
from app.knowledge import building as room
from app.knowledge.base import Namespace
from app.knowledge.building import Building
from app.knowledge.generations import GenerationRepository, Generations
from app.knowledge.models import GenerationRow, GenerationState
from app.knowledge.questions import Asked, QuestionRepository, ndcg, recall
from app.knowledge.registry import Embedders, Truncated
from tests.unit.knowledge.conftest import BOUNDS, Knowledge

PAYLOAD = {"tenant_id": "acme", "bot": "chat", "generation": "gen_b"}
CANDIDATE = Namespace("acme", "chat", "gen_b")
BATCH = 4
DOCUMENTS = 2 * BATCH + 1


class Replayed:
    """A `JobContext` that keeps each step's result, as the engine does; `dies_at` ends the run in that step."""

    job_id = "job_1"

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.dies_at: int | None = None
        self.told: list[tuple[int, int]] = []
        self._place = 0

    async def step(self, name: str, fn: Callable[..., Awaitable[Any]], *args: Any, attempts: int = 1) -> Any:
        place, self._place = self._place, self._place + 1
        if place < len(self.results):
            return self.results[place]
        try:
            result = await fn(*args)
        except Exception as error:
            raise StepFailed(name, str(error)) from error
        if place == self.dies_at:
            raise asyncio.CancelledError
        self.results.append(result)
        return result

    async def progress(self, done: int, total: int, note: str = "") -> None:
        self.told.append((done, total))

    def again(self) -> "Replayed":
        self._place, self.dies_at = 0, None
        return self


@pytest.fixture
async def building(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> Building:
    monkeypatch.setattr(room, "BATCH", BATCH)
    embedders = Embedders(knowledge.embedder, [Truncated(knowledge.embedder, "words-8", 8)])
    generations = Generations(knowledge.db, knowledge.versions, embedders, BOUNDS)
    ingestor = knowledge.with_generations(generations)
    for number in range(DOCUMENTS):
        await ingestor.put("acme", "chat", f"page-{number}", f"Page {number}", f"The lamp number {number} is blue.")
    async with knowledge.db.operator_transaction() as session:
        row = GenerationRow(
            id="gen_b", created_at=knowledge.clock(), bot="chat", embedder="words-8", state=GenerationState.BUILDING
        )
        row.bounds = {"largest": 200, "smallest": 40, "overlap": 0}
        row.report, row.updated_at = {}, knowledge.clock()
        GenerationRepository(session, "acme").add(row)
    knowledge.embedder.asked.clear()
    return Building(knowledge.db, knowledge.store, generations, ingestor.indexer, knowledge.clock)


async def row(knowledge: Knowledge) -> GenerationRow:
    async with knowledge.db.operator_reading() as session:
        return await GenerationRepository(session, "acme").get("gen_b")


async def to_state(knowledge: Knowledge, state: GenerationState) -> None:
    async with knowledge.db.operator_transaction() as session:
        (await GenerationRepository(session, "acme").get("gen_b")).state = state


@pytest.mark.parametrize("dies_at", [0, 1, 2, 4, 5])
async def test_a_build_that_dies_in_any_step_ends_complete_with_nothing_embedded_twice(
    knowledge: Knowledge, building: Building, dies_at: int
) -> None:
    context = Replayed()
    context.dies_at = dies_at
    with pytest.raises(asyncio.CancelledError):
        await building.build(context, PAYLOAD)
    assert await building.build(context.again(), PAYLOAD) == {"documents": DOCUMENTS, "state": "ready"}
    assert len(await knowledge.store.chunk_ids(CANDIDATE)) == DOCUMENTS
    assert len(knowledge.embedder.asked) == len(set(knowledge.embedder.asked)) == DOCUMENTS
    found = await row(knowledge)
    assert (found.state, found.documents_done, found.documents_total) == ("ready", DOCUMENTS, DOCUMENTS)
    assert context.told[-1] == (DOCUMENTS, DOCUMENTS)


async def test_a_document_that_came_in_unseen_is_brought_in_at_the_end(
    knowledge: Knowledge, building: Building
) -> None:
    context = Replayed()
    context.dies_at = 5
    with pytest.raises(asyncio.CancelledError):
        await building.build(context, PAYLOAD)
    # By a process that did not know of the candidate.
    await to_state(knowledge, GenerationState.FAILED)
    await knowledge.with_embedders(knowledge.embedder)[0].put("acme", "chat", "late", "Late", "The late lamp is green.")
    await to_state(knowledge, GenerationState.BUILDING)
    await building.build(context.again(), PAYLOAD)
    assert len(await knowledge.store.chunk_ids(CANDIDATE)) == DOCUMENTS + 1


async def test_an_embedder_that_stays_away_fails_the_build_with_its_reason(
    knowledge: Knowledge, building: Building
) -> None:
    knowledge.embedder.error = Unavailable("The embedding server does not answer.", retry_after=1)
    with pytest.raises(StepFailed):
        await building.build(Replayed(), PAYLOAD)
    found = await row(knowledge)
    assert (found.state, found.last_error) == ("failed", "The embedding server does not answer.")
    knowledge.embedder.error = None
    assert (await building.build(Replayed(), PAYLOAD))["state"] == "failed"


async def test_a_generation_that_is_dropped_while_it_is_built_ends_there(
    knowledge: Knowledge, building: Building
) -> None:
    context = Replayed()
    context.dies_at = 1
    with pytest.raises(asyncio.CancelledError):
        await building.build(context, PAYLOAD)
    await to_state(knowledge, GenerationState.DROPPED)
    assert (await building.build(context.again(), PAYLOAD))["state"] == "dropped"
    assert len(knowledge.embedder.asked) == BATCH
    assert await building.drop(Replayed(), PAYLOAD) == {"dropped": True}
    assert await knowledge.store.count(CANDIDATE) == 0
    assert await knowledge.store.count(Namespace("acme", "chat")) == DOCUMENTS


async def test_what_answers_or_did_before_is_never_dropped(knowledge: Knowledge, building: Building) -> None:
    assert await building.drop(Replayed(), PAYLOAD | {"generation": ""}) == {"dropped": False}
    assert await knowledge.store.count(Namespace("acme", "chat")) == DOCUMENTS


async def test_the_comparison_says_what_both_find(knowledge: Knowledge, building: Building) -> None:
    async with knowledge.db.operator_transaction() as session:
        asked = [Asked(question=f"lamp number {number} blue", slugs=[f"page-{number}"]) for number in (3, 7)]
        await QuestionRepository(session, "acme").replace("chat", asked, knowledge.clock)
    await building.build(Replayed(), PAYLOAD)
    report = (await row(knowledge)).report
    assert (report["questions"], report["against"]) == (2, "first")
    assert report["active"] == {"ndcg_at_10": 1.0, "recall_at_5": 1.0}
    assert 0 < report["candidate"]["ndcg_at_10"] <= 1.0


def test_measures_are_those_of_the_books() -> None:
    assert ndcg(["a", "b"], ["a", "b"]) == 1
    assert ndcg(["x", "a"], ["a"]) == pytest.approx(1 / 1.584962, abs=1e-6)
    assert ndcg(["x"] * 10 + ["a"], ["a"]) == 0
    assert recall(["a", "x", "y", "z", "u", "b"], ["a", "b"]) == 0.5
