"""An embedder that is asked once for each text."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from app.cache.lru import LruCache
from app.cache.tiered import TieredCache
from app.errors import Unavailable
from app.knowledge.base import Vectors
from app.knowledge.embedders import CachedEmbedder
from app.telemetry.metrics import Metrics
from tests.support.vectors import WordsEmbedder, embed_words


@pytest.fixture
def inner() -> WordsEmbedder:
    return WordsEmbedder()


@pytest.fixture
def cache() -> TieredCache:
    return TieredCache("embeddings", LruCache(), None, Metrics(CollectorRegistry()))


async def test_only_texts_that_are_not_known_go_on_in_one_call_and_each_once(
    inner: WordsEmbedder, cache: TieredCache
) -> None:
    embedder = CachedEmbedder(inner, cache)
    await embedder.embed(["one", "two"])
    vectors = await embedder.embed(["three", "two", "four", "three", "\ud800"])
    assert inner.asked == ["one", "two", "three", "four", "\ud800"]
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors[:4], [embed_words(text) for text in ("three", "two", "four", "three")])
    vectors[0] = 0
    assert np.array_equal((await embedder.embed(["three"]))[0], embed_words("three")), "a caller has its own copy"


async def test_it_stands_for_the_one_inside(inner: WordsEmbedder, cache: TieredCache) -> None:
    embedder = CachedEmbedder(inner, cache)
    assert (embedder.name, embedder.dimension) == (inner.name, inner.dimension)
    assert (await embedder.embed([])).shape == (0, inner.dimension)


async def test_another_embedders_vectors_are_never_given(inner: WordsEmbedder, cache: TieredCache) -> None:
    other = WordsEmbedder()
    other.name = "other"
    await CachedEmbedder(inner, cache).embed(["one"])
    await CachedEmbedder(other, cache).embed(["one"])
    assert other.asked == ["one"]


async def test_texts_that_are_asked_for_at_once_are_sent_once(cache: TieredCache) -> None:
    class Slow(WordsEmbedder):
        async def embed(self, texts: Sequence[str]) -> Vectors:
            await asyncio.sleep(0.01)
            return await super().embed(texts)

    slow = Slow()
    embedder = CachedEmbedder(slow, cache)
    await asyncio.gather(*(embedder.embed(["one", "two"]) for _ in range(100)))
    assert slow.asked == ["one", "two"]


async def test_a_failure_is_passed_on_and_nothing_is_kept(inner: WordsEmbedder, cache: TieredCache) -> None:
    embedder = CachedEmbedder(inner, cache)
    inner.error = Unavailable("down", retry_after=1)
    with pytest.raises(Unavailable):
        await embedder.embed(["one"])
    inner.error = None
    assert np.array_equal((await embedder.embed(["one"]))[0], embed_words("one"))
