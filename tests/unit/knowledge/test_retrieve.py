"""Retrieval: what is found, in which order, what is cached, and for whom."""

import asyncio
from collections.abc import Sequence

import pytest

from app.errors import InvalidInput, Unavailable
from app.knowledge.base import Namespace, Vectors
from tests.unit.knowledge.conftest import Knowledge

T, B = "acme", "leads"


async def fill(knowledge: Knowledge) -> None:
    pages = {
        "prices": "The price of a sensor is four euro fifty each month.",
        "refunds": "A refund is paid within thirty days of the return.",
        "support": "The emergency line is staffed by day and by night.",
    }
    for slug, text in pages.items():
        await knowledge.ingestor.put(T, B, slug, slug.title(), text, [slug])


async def slugs(knowledge: Knowledge, query: str, limit: int = 5, tags: Sequence[str] = ()) -> list[str]:
    return [passage.slug for passage in await knowledge.retriever.search(T, B, query, limit, tags)]


async def test_the_page_that_answers_comes_first_with_a_score(knowledge: Knowledge) -> None:
    await fill(knowledge)
    passages = await knowledge.retriever.search(T, B, "what is the price of a sensor")
    assert passages[0].slug == passages[0].title.lower() == "prices"
    assert passages[0].text.startswith("The price of a sensor")
    assert all(0 <= passage.score <= 1 for passage in passages)
    assert not passages[0].weak
    assert knowledge.sample("retrieval_requests_total", result="found") == 1


async def test_a_question_about_something_else_has_only_weak_evidence(knowledge: Knowledge) -> None:
    await fill(knowledge)
    passages = await knowledge.retriever.search(T, B, "guitar lessons for beginners")
    assert all(passage.weak for passage in passages)
    assert knowledge.sample("retrieval_requests_total", result="empty") == 1


@pytest.mark.parametrize("query", ["", "   ", "\n"])
async def test_an_empty_question_finds_nothing(knowledge: Knowledge, query: str) -> None:
    await fill(knowledge)
    assert await slugs(knowledge, query) == []


async def test_any_characters_are_a_question(knowledge: Knowledge) -> None:
    await fill(knowledge)
    for query in ("!!!", "\udcff broken", "🚀" * 50, "a\0b", "price " * 5000, "<|im_start|>"):
        assert len(await slugs(knowledge, query)) <= 5


@pytest.mark.parametrize("limit", [0, -1, 51])
async def test_a_limit_out_of_range_is_refused(knowledge: Knowledge, limit: int) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        await slugs(knowledge, "price", limit)


async def test_the_limit_and_the_tags_are_kept(knowledge: Knowledge) -> None:
    await fill(knowledge)
    assert len(await slugs(knowledge, "price refund line", limit=2)) == 2
    assert await slugs(knowledge, "price refund line", tags=["refunds"]) == ["refunds"]
    assert await slugs(knowledge, "price refund line", tags=["nothing"]) == []


async def test_a_question_in_another_language_finds_the_english_page(knowledge: Knowledge) -> None:
    await fill(knowledge)
    for query in ("Was kostet das, und wie ist der Preis?", "¿Cuál es el precio?", "料金はいくらですか"):
        passages = await knowledge.retriever.search(T, B, query)
        assert (passages[0].slug, passages[0].weak) == ("prices", False)


async def test_a_page_in_the_askers_language_goes_before_one_in_a_third(knowledge: Knowledge) -> None:
    await knowledge.ingestor.put(
        T, B, "fr", "Prix", "Le prix de la tour est de dix euro par mois pour nous et pour vous."
    )
    await knowledge.ingestor.put(
        T, B, "de", "Preis", "Der Preis für den Turm ist zehn euro im Monat, für Sie und für uns."
    )
    assert (await slugs(knowledge, "Der Preis für den Turm und die euro"))[0] == "de"
    assert (await slugs(knowledge, "Le prix de la tour et les euro"))[0] == "fr"


async def test_the_same_question_is_searched_once(knowledge: Knowledge) -> None:
    await fill(knowledge)
    knowledge.embedder.asked.clear()
    first = await knowledge.retriever.search(T, B, "price")
    again = await knowledge.retriever.search(T, B, "  price ")
    assert first == again
    assert knowledge.embedder.asked == ["price"]
    assert knowledge.sample("retrieval_cache_requests_total", result="hit") == 1
    assert knowledge.sample("retrieval_cache_requests_total", result="miss") == 1


async def test_a_caller_cannot_spoil_what_is_cached(knowledge: Knowledge) -> None:
    await fill(knowledge)
    first = await knowledge.retriever.search(T, B, "price")
    first.clear()
    assert await knowledge.retriever.search(T, B, "price") != []


async def test_limit_and_tags_are_part_of_the_question(knowledge: Knowledge) -> None:
    await fill(knowledge)
    assert len(await slugs(knowledge, "price")) == 3
    assert len(await slugs(knowledge, "price", limit=1)) == 1
    assert await slugs(knowledge, "price", tags=["support"]) == ["support"]


async def test_a_change_is_seen_at_once(knowledge: Knowledge) -> None:
    await fill(knowledge)
    assert "prices" in await slugs(knowledge, "price of a sensor")
    await knowledge.ingestor.delete(T, B, "prices")
    assert "prices" not in await slugs(knowledge, "price of a sensor")


async def test_a_change_by_another_process_is_seen_within_a_second(knowledge: Knowledge) -> None:
    await fill(knowledge)
    before = await slugs(knowledge, "price of a sensor")
    namespace = Namespace(T, B)
    await knowledge.store.drop(namespace)
    async with knowledge.db.transaction() as session:
        await knowledge.versions.bump(session, namespace)
    assert await slugs(knowledge, "price of a sensor") == before
    knowledge.clock.advance(seconds=1.1)
    assert await slugs(knowledge, "price of a sensor") == []


async def test_what_is_cached_grows_old(knowledge: Knowledge) -> None:
    await fill(knowledge)
    await slugs(knowledge, "price")
    knowledge.clock.advance(seconds=301)
    await slugs(knowledge, "price")
    assert knowledge.sample("retrieval_cache_requests_total", result="miss") == 2


async def test_another_tenant_or_bot_never_gets_the_answer_even_from_the_cache(knowledge: Knowledge) -> None:
    await fill(knowledge)
    for slug in ("one", "two", "three"):  # as many changes: the versions are the same
        await knowledge.ingestor.put("other", B, slug, slug, f"The price of number {slug}.")
    assert set(await slugs(knowledge, "price")) == {"prices", "refunds", "support"}
    assert {p.slug for p in await knowledge.retriever.search("other", B, "price")} == {"one", "two", "three"}
    assert await knowledge.retriever.search(T, "other-bot", "price") == []


async def test_the_same_question_at_the_same_time_is_one_search(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(knowledge)
    await slugs(knowledge, "warm")
    opened, started, calls = asyncio.Event(), asyncio.Event(), []
    embed = knowledge.embedder.embed

    async def slow(texts: Sequence[str]) -> Vectors:
        calls.append(texts)
        started.set()
        await opened.wait()
        return await embed(texts)

    monkeypatch.setattr(knowledge.embedder, "embed", slow)
    searches = [asyncio.create_task(slugs(knowledge, "price")) for _ in range(5)]
    await started.wait()
    searches[0].cancel()
    opened.set()
    results = await asyncio.gather(*searches, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] == results[4] != []
    assert len(calls) == 1
    assert knowledge.sample("retrieval_cache_requests_total", result="shared") == 4


async def test_a_failure_is_told_counted_and_not_kept(knowledge: Knowledge) -> None:
    await fill(knowledge)
    knowledge.embedder.error = Unavailable("away", retry_after=1)
    with pytest.raises(Unavailable):
        await slugs(knowledge, "price")
    assert knowledge.sample("retrieval_requests_total", result="error") == 1
    knowledge.embedder.error = None
    assert (await slugs(knowledge, "price"))[0] == "prices"


async def test_the_words_of_a_question_are_embedded_once_for_all_versions(knowledge: Knowledge) -> None:
    await fill(knowledge)
    await slugs(knowledge, "price")
    await knowledge.ingestor.delete(T, B, "support")
    knowledge.embedder.asked.clear()
    await slugs(knowledge, "price")
    assert knowledge.embedder.asked == []
