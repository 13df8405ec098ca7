"""Every vector store does the same; the plain one in tests/support says what."""

import asyncio
import hashlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import ConfigError
from app.knowledge.base import Chunk, Namespace, VectorStore
from app.knowledge.edge import EdgeVectors
from app.knowledge.qdrant import QdrantVectors
from tests.support.examples import examples
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.fakes.qdrant_embedded import EmbeddedPoints
from tests.support.fakes.qdrant_local import local_qdrant
from tests.support.vectors import DIMENSION, ReferenceVectors, embed_words

ACME, OTHER = Namespace("acme", "leads"), Namespace("other", "leads")


def chunk(document: str, text: str, *tags: str) -> Chunk:
    digest = hashlib.sha256(f"{document}{text}".encode()).hexdigest()[:32]
    return Chunk(f"chk_{digest}", document, document, document.title(), document.title(), 0, text, tags)


async def put(store: VectorStore, namespace: Namespace, *chunks: Chunk) -> None:
    await store.upsert(namespace, chunks, np.array([embed_words(c.indexed_text) for c in chunks]))


async def ask(
    store: VectorStore, namespace: Namespace, text: str, limit: int = 5, weight: float = 0.7, tags: Sequence[str] = ()
) -> list[str]:
    hits = await store.search(namespace, embed_words(text)[None], text, limit, dense_weight=weight, tags=tags)
    return [hit.chunk.text for hit in hits]


@pytest.fixture(params=["edge", "qdrant", "qdrant over http", "embedded over http", "reference"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorStore]:
    if request.param.endswith("over http"):
        embedded: Any = EmbeddedPoints(tmp_path)
        async with FakeQdrant(local=embedded) if "embedded" in request.param else FakeQdrant() as server:
            remote = await QdrantVectors.open(server.url, key=KEY)
            yield remote
            await remote.close()
        return
    if request.param == "edge":
        made: VectorStore = EdgeVectors.open(tmp_path / "vectors")
    elif request.param == "qdrant":
        made = local_qdrant()
    else:
        made = ReferenceVectors()
    yield made
    await made.close()


PAGES = (
    chunk("prices", "A sensor costs four euro fifty a month", "money"),
    chunk("refunds", "The hardware price is paid back within thirty days", "money", "returns"),
    chunk("support", "The emergency line is staffed day and night", "help"),
)


async def test_an_empty_namespace_has_nothing_and_is_no_error(store: VectorStore) -> None:
    assert await ask(store, ACME, "anything") == []
    assert await store.count(ACME) == 0
    assert await store.chunk_ids(ACME) == {}
    await store.delete(ACME, ["prices"])
    await store.ensure(ACME, DIMENSION)
    assert await ask(store, ACME, "anything") == []


async def test_the_nearest_comes_first_by_words_by_vector_and_by_both(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    for weight in (0.0, 0.7, 1.0):
        assert (await ask(store, ACME, "emergency line staffed night", weight=weight))[0] == PAGES[2].text


async def test_a_hit_carries_its_chunk_and_its_signals(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    question = "emergency line"
    vectors = np.array([embed_words(question), embed_words(PAGES[2].indexed_text)])
    best = (await store.search(ACME, vectors, question, 1))[0]
    assert best.chunk == PAGES[2]
    assert best.cosines[0] == pytest.approx(float(vectors[0] @ embed_words(PAGES[2].indexed_text)), abs=1e-4)
    assert best.cosines[1] == pytest.approx(1.0, abs=1e-4)
    assert best.lexical > 0
    nothing = await store.search(ACME, embed_words("zebra")[None], "zebra", 3)
    assert [hit.lexical for hit in nothing] == [0, 0, 0]


async def test_a_query_without_vector_or_without_words_uses_the_other(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    by_words = await store.search(ACME, np.zeros((1, DIMENSION), np.float32), "emergency", 5)
    assert [hit.chunk for hit in by_words] == [PAGES[2]]
    by_vector = await store.search(ACME, embed_words("emergency line")[None], "!?", 1)
    assert [hit.chunk for hit in by_vector] == [PAGES[2]]
    assert await store.search(ACME, np.zeros((1, DIMENSION), np.float32), "", 5) == []


async def test_a_chunk_stands_where_its_best_wording_puts_it(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    best, other = embed_words(PAGES[2].indexed_text), embed_words("sensor costs")
    for wordings in ([best, other], [other, best]):
        hits = await store.search(ACME, np.array(wordings), "", 1, dense_weight=1.0)
        assert [hit.chunk for hit in hits] == [PAGES[2]]


async def test_tags_hold_the_search_to_chunks_that_carry_one(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    assert set(await ask(store, ACME, "price sensor line", tags=["money"])) == {PAGES[0].text, PAGES[1].text}
    assert await ask(store, ACME, "price sensor line", tags=["returns", "unknown"]) == [PAGES[1].text]
    assert await ask(store, ACME, "price sensor line", tags=["unknown"]) == []


async def test_documents_hold_the_search_to_their_chunks(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    vector = embed_words("price sensor line")[None]
    found = await store.search(ACME, vector, "price sensor line", 5, document_ids=["prices", "unknown"])
    assert [hit.chunk for hit in found] == [PAGES[0]]
    assert await store.search(ACME, vector, "price", 5, tags=["returns"], document_ids=["prices"]) == []


async def test_the_limit_is_kept(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    assert len(await ask(store, ACME, "price sensor line", limit=2)) == 2
    assert await ask(store, ACME, "price", limit=0) == []


async def test_the_same_chunk_put_twice_is_one(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    await put(store, ACME, *PAGES)
    assert await store.count(ACME) == 3


async def test_deleting_takes_a_document_or_a_chunk_and_nothing_else(store: VectorStore) -> None:
    second = chunk("prices", "A hub costs two hundred and forty nine euro")
    await put(store, ACME, *PAGES, second)
    await store.delete_chunks(ACME, [second.id])
    assert await store.chunk_ids(ACME) == {c.document_id: {c.id} for c in PAGES}
    assert await store.chunk_ids(ACME, "prices") == {"prices": {PAGES[0].id}}
    assert await store.chunk_ids(ACME, "unknown") == {}
    await store.delete(ACME, ["prices", "unknown"])
    assert set(await store.chunk_ids(ACME)) == {"refunds", "support"}
    assert PAGES[0].text not in await ask(store, ACME, "sensor costs month")


async def test_namespaces_share_nothing(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    assert await ask(store, OTHER, "sensor costs month") == []
    await put(store, OTHER, PAGES[0])
    await store.delete(OTHER, ["prices"])
    await store.drop(OTHER)
    assert await store.count(ACME) == 3
    assert (await ask(store, ACME, "sensor costs month"))[0] == PAGES[0].text


async def test_a_namespace_is_its_tenant_and_its_bot_not_their_letters(store: VectorStore) -> None:
    await put(store, Namespace("a", "bc"), PAGES[0])
    assert await store.count(Namespace("ab", "c")) == 0
    assert await store.count(Namespace("a", "b")) == 0


async def test_generations_of_one_bot_share_nothing(store: VectorStore) -> None:
    candidate = ACME._replace(generation="gen_1")
    await put(store, ACME, *PAGES)
    await store.ensure(candidate, 2 * DIMENSION)
    wide = np.concatenate([embed_words(PAGES[0].indexed_text), np.zeros(DIMENSION, np.float32)])
    await store.upsert(candidate, PAGES[:1], wide[None])
    found = await store.search(candidate, wide[None], "emergency line staffed", 5)
    assert [hit.chunk for hit in found] == [PAGES[0]]
    assert (await ask(store, ACME, "emergency line staffed"))[0] == PAGES[2].text
    await store.drop(candidate)
    assert (await store.count(candidate), await store.count(ACME)) == (0, 3)


async def test_an_index_of_another_dimension_is_made_anew(store: VectorStore) -> None:
    await put(store, ACME, *PAGES)
    await store.ensure(ACME, DIMENSION)
    assert await store.count(ACME) == 3
    await store.ensure(ACME, 2)
    assert await store.count(ACME) == 0
    await store.upsert(ACME, PAGES[:1], np.array([[0.6, 0.8]], np.float32))
    assert await store.chunk_ids(ACME) == {"prices": {PAGES[0].id}}
    with pytest.raises(ValueError):
        await store.upsert(ACME, PAGES[:1], embed_words("old")[None])


async def test_vectors_of_the_wrong_shape_are_refused(store: VectorStore) -> None:
    await store.ensure(ACME, DIMENSION)
    with pytest.raises(ValueError):
        await store.upsert(ACME, PAGES, np.ones((2, DIMENSION), np.float32))
    with pytest.raises(ValueError):
        await store.upsert(ACME, PAGES, np.ones((3, DIMENSION + 1), np.float32))
    assert await store.count(ACME) == 0


VOCABULARY = ("sensor", "hub", "price", "refund", "night", "alarm", "freezer", "lorry", "tag", "battery")
NAMES = ("north", "south", "east", "west", "harbour", "tower")
texts = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=6).map(" ".join)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=st.dictionaries(st.sampled_from(NAMES), texts, min_size=1), question=texts)
@pytest.mark.parametrize("engine", ["edge", "qdrant"])
async def test_every_engine_finds_what_the_reference_finds(engine: str, pages: dict[str, str], question: str) -> None:
    chunks = [chunk(document, text) for document, text in pages.items()]
    exact, other = ReferenceVectors(), EdgeVectors.open(None) if engine == "edge" else local_qdrant()
    try:
        for store in (exact, other):
            await put(store, ACME, *chunks)
        vector = embed_words(question)[None]
        for weight in (0.0, 1.0):
            expected = await exact.search(ACME, vector, question, 8, dense_weight=weight)
            found = await other.search(ACME, vector, question, 8, dense_weight=weight)
            assert {h.chunk.id for h in found} == {h.chunk.id for h in expected}
            by_id = {h.chunk.id: h for h in expected}
            for hit in found:
                assert hit.lexical == pytest.approx(by_id[hit.chunk.id].lexical, rel=1e-3, abs=1e-4)
                assert hit.cosines == pytest.approx(by_id[hit.chunk.id].cosines, abs=1e-3)
    finally:
        await other.close()


async def test_what_was_put_is_there_after_reopening(tmp_path: Path) -> None:
    first = EdgeVectors.open(tmp_path)
    await put(first, ACME, *PAGES)
    await first.close()
    second = EdgeVectors.open(tmp_path)
    assert (await ask(second, ACME, "emergency line"))[0] == PAGES[2].text
    await second.close()


async def test_another_dimension_found_at_the_next_start_empties_the_index(tmp_path: Path) -> None:
    first = EdgeVectors.open(tmp_path)
    await put(first, ACME, *PAGES)
    await first.close()
    second = EdgeVectors.open(tmp_path)
    await second.ensure(ACME, 2 * DIMENSION)
    assert await second.count(ACME) == 0
    await second.close()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


async def test_folders_of_the_first_release_go(tmp_path: Path) -> None:
    old = tmp_path / "wordllama-l2-supercat-256-256-0a1b2c3d" / "shard"
    old.mkdir(parents=True)
    store = EdgeVectors.open(tmp_path)
    await put(store, ACME, *PAGES)
    await store.close()
    again = EdgeVectors.open(tmp_path)
    assert await again.count(ACME) == 3
    await again.close()
    assert not old.parent.exists()


async def test_a_folder_opens_once_and_says_who_has_it(tmp_path: Path) -> None:
    first = EdgeVectors.open(tmp_path)
    with pytest.raises(ConfigError, match=rf"open in another process \(pid {os.getpid()}\)"):
        EdgeVectors.open(tmp_path)
    await first.close()
    await EdgeVectors.open(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot be kept in"):
        EdgeVectors.open(tmp_path / "file" / "vectors")


async def test_a_damaged_index_is_set_aside_and_starts_anew(tmp_path: Path) -> None:
    first = EdgeVectors.open(tmp_path)
    await put(first, ACME, *PAGES)
    await first.close()
    for config in tmp_path.rglob("segment.json"):
        config.write_bytes(b"\x00garbage")
    second = EdgeVectors.open(tmp_path)
    assert await second.count(ACME) == 0
    await put(second, ACME, *PAGES)
    assert await second.count(ACME) == 3
    assert any("damaged" in path.name for path in tmp_path.rglob("*"))
    await second.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from app.knowledge.edge import EdgeVectors
from tests.contract.test_vectors import ACME, PAGES, put
from tests.support.vectors import DIMENSION

async def main():
    store = EdgeVectors.open(Path(sys.argv[1]))
    await put(store, ACME, *PAGES)
    print("kept", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_what_was_put_survives_sigkill_and_frees_the_folder(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, str(tmp_path), stdout=PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"kept\n"
    with pytest.raises(ConfigError, match=f"pid {process.pid}"):
        EdgeVectors.open(tmp_path)
    process.kill()
    await process.wait()
    store = EdgeVectors.open(tmp_path)
    assert (await ask(store, ACME, "emergency line"))[0] == PAGES[2].text
    await store.close()
