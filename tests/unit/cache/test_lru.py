"""The tier in process keeps its bounds, its tags and its times."""

from hypothesis import given
from hypothesis import strategies as st

from app.cache.base import Entry
from app.cache.lru import OVERHEAD_BYTES, LruCache


async def test_the_least_recently_used_entry_goes_first() -> None:
    cache = LruCache(2)
    await cache.set("a", b"1", 60)
    await cache.set("b", b"2", 60)
    await cache.get("a")
    await cache.set("c", b"3", 60)
    assert [await cache.get(key) for key in "abc"] == [b"1", None, b"3"]


def test_bytes_make_room_as_entries_do() -> None:
    cache = LruCache(100, max_bytes=3 * (OVERHEAD_BYTES + 101))
    for key in "abcd":
        cache.put(key, Entry(b"x" * 100, 60))
    assert [cache.peek(key) is not None for key in "abcd"] == [False, True, True, True]
    assert cache.size == 3 * (OVERHEAD_BYTES + 101)


def test_what_does_not_fit_by_itself_is_not_kept_and_pushes_nothing_out() -> None:
    cache = LruCache(100, max_bytes=2000)
    cache.put("a", Entry(b"1", 60))
    cache.put("b", Entry(b"x" * 2000, 60))
    assert (cache.peek("a"), cache.peek("b")) == (b"1", None)
    cache.put("a", Entry(b"x" * 2000, 60))
    assert cache.peek("a") is None, "and the older value is not given for it"


def test_what_has_outlived_its_time_is_freed() -> None:
    now = [0.0]
    cache = LruCache(clock=lambda: now[0])
    cache.put("a", Entry(b"1", 5, ("t",)))
    cache.put("b", Entry(b"2", 50, ("t",)))
    now[0] = 5
    assert (cache.purge(), len(cache), cache.take("t")) == (1, 1, ["b"])
    assert cache.size == 0


KEYS, TAGS = st.sampled_from("abcdef"), st.sampled_from("xyz")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=900), st.sets(TAGS).map(tuple), st.integers(0, 9)),
        st.tuples(st.just("take"), st.sets(TAGS)),
        st.tuples(st.just("wait"), st.integers(1, 5)),
    ),
    max_size=60,
)


@given(STEPS)
def test_bounds_hold_and_a_value_is_only_ever_its_keys_own_until_its_time_or_tag(steps: list[tuple]) -> None:
    now = [0.0]
    cache = LruCache(4, max_bytes=3000, clock=lambda: now[0])
    known: dict[str, tuple[bytes, tuple[str, ...], float]] = {}
    for act, *rest in steps:
        if act == "put":
            key, value, tags, ttl_s = rest
            cache.put(key, Entry(value, ttl_s, tags))
            known[key] = value, tags, now[0] + ttl_s
        elif act == "take":
            cache.take(*rest[0])
            known = {key: kept for key, kept in known.items() if not rest[0] & set(kept[1])}
        else:
            now[0] += rest[0]
        alive = {key: value for key, (value, _, until) in known.items() if until > now[0]}
        held = {key: value for key in "abcdef" if (value := cache.peek(key)) is not None}
        assert held.items() <= alive.items()
        assert len(cache) <= 4
        assert cache.size <= 3000
        assert cache.size >= sum(OVERHEAD_BYTES + len(value) for value in held.values())
    cache.take(*"xyz")
    for key in "abcdef":
        cache.put(key, Entry(b"", 0))
    assert (len(cache), cache.size) == (0, 0)
