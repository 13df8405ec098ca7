"""Retrieval: what is found, in which order, what is cached, and for whom."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import InvalidInput, Unavailable
from app.knowledge.base import Hit, Namespace, Vectors
from app.knowledge.retrieve import SearchOptions
from tests.support.examples import examples
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
    assert knowledge.sample("cache_requests_total", cache="retrieval", tier="l1", result="hit") == 1
    assert knowledge.sample("cache_requests_total", cache="retrieval", tier="none", result="miss") == 1


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
    async with knowledge.db.operator_transaction() as session:
        await knowledge.versions.bump(session, namespace)
    assert await slugs(knowledge, "price of a sensor") == before
    knowledge.clock.advance(seconds=1.1)
    assert await slugs(knowledge, "price of a sensor") == []


async def test_what_is_cached_grows_old(knowledge: Knowledge) -> None:
    await fill(knowledge)
    await slugs(knowledge, "price")
    knowledge.clock.advance(seconds=3601)
    await slugs(knowledge, "price")
    assert knowledge.sample("cache_requests_total", cache="retrieval", tier="none", result="miss") == 2


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
    assert knowledge.sample("cache_requests_total", cache="retrieval", tier="none", result="shared") == 4


async def test_a_failure_is_told_counted_and_not_kept(knowledge: Knowledge) -> None:
    await fill(knowledge)
    knowledge.embedder.error = Unavailable("away", retry_after=1)
    with pytest.raises(Unavailable):
        await slugs(knowledge, "price")
    assert knowledge.sample("retrieval_requests_total", result="error") == 1
    knowledge.embedder.error = None
    assert (await slugs(knowledge, "price"))[0] == "prices"


async def test_documents_can_be_named(knowledge: Knowledge) -> None:
    await fill(knowledge)
    refunds = next(p for p in await knowledge.retriever.search(T, B, "price") if p.slug == "refunds")
    found = await knowledge.retriever.search(T, B, "price", document_ids=[refunds.document_id])
    assert [passage.slug for passage in found] == ["refunds"]
    assert await knowledge.retriever.search(T, B, "price", tags=["prices"], document_ids=[refunds.document_id]) == []


async def test_words_or_vectors_alone_can_be_asked_for(knowledge: Knowledge) -> None:
    await fill(knowledge)
    by_words = await knowledge.retriever.search(T, B, "price", options=SearchOptions(dense_weight=0.0))
    assert [passage.slug for passage in by_words] == ["prices"]
    by_vectors = await knowledge.retriever.search(T, B, "price", options=SearchOptions(dense_weight=1.0))
    assert len(by_vectors) == 3


@pytest.mark.parametrize(
    "options", [SearchOptions(dense_weight=1.1), SearchOptions(diversity=-0.1), SearchOptions(diversity=float("nan"))]
)
async def test_an_option_out_of_range_is_refused(knowledge: Knowledge, options: SearchOptions) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        await knowledge.retriever.search(T, B, "price", options=options)


async def test_rewriting_finds_what_shares_no_word_with_the_question(knowledge: Knowledge) -> None:
    for number in range(3):
        text = f"Condenser {number}: evaporator, compressor, coolant."
        await knowledge.ingestor.put(T, B, f"named-{number}", "Coolant", text)
        await knowledge.ingestor.put(T, B, f"other-{number}", "Parcel", f"Parcels ride by lorry {number}.")
    await knowledge.ingestor.put(T, B, "kin", "Coolant", "Evaporator, compressor, coolant.")
    plain = await slugs(knowledge, "condenser", limit=8)
    rewritten = await knowledge.retriever.search(T, B, "condenser", 8, options=SearchOptions(rewrite=True))
    assert plain[3] != "kin"
    assert rewritten[3].slug == "kin"


async def test_rewriting_changes_the_order_and_not_the_score(knowledge: Knowledge) -> None:
    await fill(knowledge)
    plain = {p.slug: p.score for p in await knowledge.retriever.search(T, B, "price of a sensor")}
    rewritten = await knowledge.retriever.search(T, B, "price of a sensor", options=SearchOptions(rewrite=True))
    assert {p.slug: p.score for p in rewritten} == pytest.approx(plain)


async def test_the_flag_for_rewriting_is_the_tenants(knowledge: Knowledge) -> None:
    await fill(knowledge)
    retriever = knowledge.switched("retrieval.rewrite", T)
    asked: list[int] = []
    search = knowledge.store.search

    async def counted(*args: Any, **kwargs: Any) -> list[Hit]:
        asked.append(1)
        return await search(*args, **kwargs)

    knowledge.store.search = counted  # type: ignore[method-assign]
    await retriever.search(T, B, "price")
    assert len(asked) == 2
    await retriever.search("other", B, "price")
    assert len(asked) == 3


TIED = "What is in the box?"


async def tie(knowledge: Knowledge, tenant: str = T) -> dict[str, str]:
    """Two documents that are equally near; by slug, their ids."""
    for slug in ("one", "two"):
        await knowledge.ingestor.put(tenant, B, slug, "Box", "In the box is a sensor and a hub.")
    return {p.slug: p.document_id for p in await knowledge.retriever.search(tenant, B, TIED)}


async def test_a_user_gets_the_document_of_earlier_answers_first(knowledge: Knowledge) -> None:
    ids = await tie(knowledge)
    retriever = knowledge.switched("retrieval.boosts", T)
    first, second = [p.slug for p in await retriever.search(T, B, TIED, user="ada")]
    await retriever.cited(T, B, "ada", [ids[second]])
    assert [p.slug for p in await retriever.search(T, B, TIED, user="ada")] == [second, first]
    await retriever.forget(T, "ada")
    assert [p.slug for p in await retriever.search(T, B, TIED, user="ada")] == [first, second]
    assert await retriever.export(T, "ada") == {}


async def test_a_preference_never_beats_a_clearly_better_document(knowledge: Knowledge) -> None:
    await fill(knowledge)
    retriever = knowledge.switched("retrieval.boosts", T)
    refunds = next(p for p in await retriever.search(T, B, "price of a sensor") if p.slug == "refunds")
    for _ in range(20):
        await retriever.cited(T, B, "ada", [refunds.document_id])
    assert (await retriever.search(T, B, "price of a sensor", user="ada"))[0].slug == "prices"


async def test_without_the_flag_nothing_of_a_user_is_kept_or_used(knowledge: Knowledge) -> None:
    ids = await tie(knowledge)
    first, second = ids
    await knowledge.retriever.cited(T, B, "ada", [ids[second]])
    assert await knowledge.retriever.export(T, "ada") == {}
    retriever = knowledge.switched("retrieval.boosts", T)
    await retriever.cited(T, B, "ada", [ids[second]])
    assert [p.slug for p in await knowledge.retriever.search(T, B, TIED, user="ada")] == [first, second]


@settings(max_examples=examples(16), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(liker=st.tuples(*[st.sampled_from("ab")] * 3), asker=st.tuples(*[st.sampled_from("ab")] * 3))
async def test_one_users_history_never_reaches_another_tenant_bot_or_user(
    knowledge: Knowledge, liker: tuple[str, str, str], asker: tuple[str, str, str]
) -> None:
    retriever = knowledge.switched("retrieval.boosts", "a", "b")
    for tenant in "ab":
        for bot in "ab":
            for slug in ("one", "two"):
                await knowledge.ingestor.put(tenant, bot, slug, "Box", "In the box is a sensor and a hub.")
    tenant, bot, user = asker
    before = [p.document_id for p in await retriever.search(tenant, bot, TIED, user=user)]
    # The same ids everywhere: what crosses would be seen.
    await retriever.cited(*liker, [before[1]])
    after = [p.document_id for p in await retriever.search(tenant, bot, TIED, user=user)]
    assert (after == before) == (liker != asker)
    for owner in "ab":
        for name in "ab":
            await retriever.forget(owner, name)
