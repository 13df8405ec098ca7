"""A user's history: small, bounded, fading, and nobody else's."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cache.lru import LruCache
from app.knowledge.boosts import HALF_LIFE, MAX_DOCUMENTS, MOST_BOOST, CachedHistory, Liking
from tests.conftest import StillClock
from tests.support.examples import examples

# Few, so that two owners often share a part, and some that could be mistaken for two parts of another.
names = st.sampled_from(["a", "b", "a:b", 'a","b'])
owners = st.tuples(names, names, names)


@pytest.fixture
def history(clock: StillClock) -> CachedHistory:
    return CachedHistory(LruCache(100, 1 << 20, lambda: clock().timestamp()), clock)


async def test_what_was_cited_is_preferred_more_the_oftener_and_never_by_more_than_the_bound(
    history: CachedHistory,
) -> None:
    boosts = []
    for _ in range(50):
        await history.cited("acme", "help", "ada", ["prices"])
        boosts.append((await history.liking("acme", "help", "ada")).boost("prices"))
    assert 1 < boosts[0] < boosts[1] < boosts[-1] < 1 + MOST_BOOST
    assert (await history.liking("acme", "help", "ada")).boost("unknown") == 1


async def test_a_preference_halves_with_time_and_is_gone_after_a_day(history: CachedHistory, clock: StillClock) -> None:
    await history.cited("acme", "help", "ada", ["prices"])
    clock.advance(seconds=HALF_LIFE.total_seconds())
    assert (await history.liking("acme", "help", "ada")).weights == pytest.approx({"prices": 0.5})
    clock.advance(seconds=timedelta(hours=17).total_seconds())
    assert await history.liking("acme", "help", "ada") == Liking()


async def test_the_stamp_changes_with_every_answer_and_not_with_time(history: CachedHistory, clock: StillClock) -> None:
    await history.cited("acme", "help", "ada", ["prices"])
    first = (await history.liking("acme", "help", "ada")).stamp
    clock.advance(seconds=60)
    assert (await history.liking("acme", "help", "ada")).stamp == first
    await history.cited("acme", "help", "ada", ["prices"])
    assert (await history.liking("acme", "help", "ada")).stamp not in ("", first)


async def test_the_latest_documents_are_kept_and_the_rest_let_go(history: CachedHistory) -> None:
    for number in range(MAX_DOCUMENTS + 5):
        await history.cited("acme", "help", "ada", [f"doc-{number}"])
    weights = (await history.liking("acme", "help", "ada")).weights
    assert len(weights) == MAX_DOCUMENTS
    assert "doc-4" not in weights
    assert f"doc-{MAX_DOCUMENTS + 4}" in weights


async def test_what_is_kept_can_be_taken_along_and_erased_in_every_bot(history: CachedHistory) -> None:
    await history.cited("acme", "help", "ada", ["prices"])
    await history.cited("acme", "sales", "ada", ["plans"])
    await history.cited("acme", "help", "bob", ["prices"])
    exported = await history.export("acme", "ada")
    assert {bot: list(kept) for bot, kept in exported.items()} == {"help": ["prices"], "sales": ["plans"]}
    assert await history.forget("acme", "ada") == 1
    assert await history.export("acme", "ada") == {}
    assert await history.liking("acme", "sales", "ada") == Liking()
    assert (await history.liking("acme", "help", "bob")).weights


async def test_an_answer_without_citations_keeps_nothing(history: CachedHistory) -> None:
    await history.cited("acme", "help", "ada", [])
    assert await history.export("acme", "ada") == {}


@settings(max_examples=examples(100))
@given(owners, owners)
async def test_one_history_never_reaches_another_tenant_bot_or_user(
    owner: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    clock = StillClock()
    history = CachedHistory(LruCache(100, 1 << 20, lambda: clock().timestamp()), clock)
    await history.cited(*owner, ["prices"])
    assert bool((await history.liking(*other)).weights) == (owner == other)
    await history.forget(other[0], other[2])
    assert bool((await history.liking(*owner)).weights) == ((owner[0], owner[2]) != (other[0], other[2]))
