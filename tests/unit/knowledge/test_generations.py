"""Which generation answers, which ones a change must reach, and what they are embedded with."""

import asyncio

import numpy as np
import pytest

from app.errors import ConfigError, NotFound
from app.knowledge.base import Namespace
from app.knowledge.chunking import Bounds, chunk_markdown
from app.knowledge.embedders import WordLlamaEmbedder
from app.knowledge.generations import Generation, GenerationRepository, Generations
from app.knowledge.models import GenerationRow, GenerationState
from app.knowledge.registry import Embedders, LateWordLlama, Truncated, wordllama_family
from app.knowledge.repository import IndexRepository, Pointers
from app.knowledge.versions import IndexVersions
from app.storage.db import Database
from tests.conftest import StillClock
from tests.support.vectors import DIMENSION, WordsEmbedder

ACME = Namespace("acme", "chat")
SMALL = {"largest": 300, "smallest": 40, "overlap": 20}


@pytest.fixture
def versions(db: Database, clock: StillClock) -> IndexVersions:
    return IndexVersions(db, clock)


@pytest.fixture
def generations(db: Database, versions: IndexVersions) -> Generations:
    whole = WordsEmbedder()
    return Generations(db, versions, Embedders(whole, [Truncated(whole, "words-8", 8)]), Bounds(largest=500))


async def add(db: Database, clock: StillClock, id: str, state: GenerationState, tenant: str = "acme") -> None:
    async with db.operator_transaction() as session:
        row = GenerationRow(
            id=id,
            created_at=clock(),
            bot="chat",
            embedder="words-8",
            bounds=SMALL,
            state=state,
            report={},
            updated_at=clock(),
        )
        GenerationRepository(session, tenant).add(row)


async def point(db: Database, versions: IndexVersions, active: str, previous: str | None) -> None:
    async with db.operator_transaction() as session:
        state = await versions.bump(session, ACME)
        await IndexRepository(session, "acme").point("chat", Pointers(active, previous))
    versions.moved(ACME, state._replace(active=active, previous=previous))


async def test_a_bot_without_rows_is_served_and_written_by_the_first_generation(generations: Generations) -> None:
    serving = await generations.serving("acme", "chat")
    assert serving.generation == Generation("", "words", Bounds(largest=500))
    assert (serving.version, serving.namespace) == (0, ACME)
    assert await generations.written("acme", "chat") == (generations.first,)


async def test_a_candidate_is_written_but_does_not_answer(
    generations: Generations, db: Database, clock: StillClock
) -> None:
    await add(db, clock, "gen_b", GenerationState.BUILDING)
    await add(db, clock, "gen_f", GenerationState.FAILED)
    await add(db, clock, "gen_d", GenerationState.DROPPED)
    await add(db, clock, "gen_x", GenerationState.READY, tenant="other")
    assert [one.id for one in await generations.written("acme", "chat")] == ["", "gen_b"]
    assert (await generations.active("acme", "chat")).id == ""


async def test_after_a_switch_the_new_one_answers_and_the_old_one_is_still_written(
    generations: Generations, db: Database, clock: StillClock, versions: IndexVersions
) -> None:
    await add(db, clock, "gen_b", GenerationState.READY)
    await point(db, versions, "gen_b", "")
    serving = await generations.serving("acme", "chat")
    assert serving.generation == Generation("gen_b", "words-8", Bounds(**SMALL))
    assert serving.namespace == ACME._replace(generation="gen_b")
    assert serving.version == 1
    assert [one.id for one in await generations.written("acme", "chat")] == ["gen_b", ""]
    await add(db, clock, "gen_c", GenerationState.READY)
    await point(db, versions, "gen_c", "gen_b")
    assert {one.id for one in await generations.written("acme", "chat")} == {"gen_c", "gen_b"}


async def test_a_switch_in_another_process_is_seen_within_a_second(
    generations: Generations, db: Database, clock: StillClock
) -> None:
    await add(db, clock, "gen_b", GenerationState.READY)
    assert (await generations.active("acme", "chat")).id == ""
    await point(db, IndexVersions(db, clock), "gen_b", "")
    assert (await generations.active("acme", "chat")).id == ""
    clock.advance(seconds=1.1)
    assert (await generations.active("acme", "chat")).id == "gen_b"


async def test_a_generation_of_another_tenant_is_not_found(
    generations: Generations, db: Database, clock: StillClock
) -> None:
    await add(db, clock, "gen_b", GenerationState.READY)
    assert (await generations.get("acme", "gen_b")).embedder == "words-8"
    with pytest.raises(NotFound):
        await generations.get("other", "gen_b")


def test_a_piece_has_an_id_of_its_own_in_each_generation() -> None:
    def ids(generation: str) -> list[str]:
        return [chunk.id for chunk in chunk_markdown("doc_1", "a", "A", "One text.", generation=generation)]

    assert ids("") == [chunk.id for chunk in chunk_markdown("doc_1", "a", "A", "One text.")]
    assert len({*ids(""), *ids("gen_1"), *ids("gen_2")}) == 3


def test_an_embedder_goes_by_its_name_and_a_short_one(generations: Generations) -> None:
    embedders = Embedders(WordsEmbedder(), wordllama_family(LateWordLlama()))
    assert embedders.names == (
        "words",
        "wordllama-l2-supercat-256",
        "wordllama-l2-supercat-128",
        "wordllama-l2-supercat-64",
    )
    assert embedders.get("wordllama-64").dimension == 64
    assert embedders.get("words") is embedders.default
    with pytest.raises(ConfigError, match=r"'ada' is none of this installation's \(words, words-8\)"):
        generations.embedder("ada")


async def test_a_truncated_vector_has_length_one_and_keeps_its_direction() -> None:
    whole = WordsEmbedder()
    short = Truncated(whole, "words-8", 8)
    vectors, full = await short.embed(["a sensor", ""]), await whole.embed(["a sensor"])
    assert vectors.shape == (2, 8)
    assert np.linalg.norm(vectors[0]) == pytest.approx(1)
    assert vectors[0] == pytest.approx(full[0, :8] / np.linalg.norm(full[0, :8]), abs=1e-6)
    assert not vectors[1].any()
    assert full.shape == (1, DIMENSION)


async def test_a_late_model_is_loaded_once_by_whoever_comes_first() -> None:
    loaded: list[WordLlamaEmbedder] = []

    def load() -> WordLlamaEmbedder:
        loaded.append(WordLlamaEmbedder())
        return loaded[-1]

    late = LateWordLlama(load)
    await late.close()
    first, second = await asyncio.gather(late.embed(["a fridge"]), late.embed(["a fridge"]))
    assert len(loaded) == 1
    assert (first == second).all()
    await late.close()
