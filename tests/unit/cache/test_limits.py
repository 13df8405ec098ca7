"""What a rate and a window let through, reckoned by this process."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.cache.limits import COUNTERS, LocalLimits, Rate
from tests.support.examples import examples

KEY = ("key", "acme", "key_1")
WAITS_US = st.lists(st.integers(0, 40_000_000), max_size=40)


class Moment:
    """A clock in microseconds that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def moment() -> Moment:
    return Moment()


@settings(max_examples=examples(100))
@given(amount=st.integers(1, 9), waits=WAITS_US)
async def test_a_rate_never_lets_through_more_than_its_burst_and_what_came_back_since(
    amount: int, waits: list[int]
) -> None:
    moment, rate = Moment(), Rate(amount)
    limits, admitted = LocalLimits(moment), []
    for wait in waits:
        moment.now += wait
        if (await limits.spend(KEY, rate)).allowed:
            admitted.append(moment.now)
    for first, since in enumerate(admitted):
        for number, until in enumerate(admitted[first:], 1):
            assert number <= amount + (until - since) * amount / 60e6


@settings(max_examples=examples(100))
@given(amount=st.integers(1, 9), waits=WAITS_US)
async def test_of_any_window_exactly_its_amount_is_let_through(amount: int, waits: list[int]) -> None:
    moment, rate = Moment(), Rate(amount)
    limits, admitted = LocalLimits(moment), []
    for wait in waits:
        moment.now += wait
        lately = sum(at > moment.now - 60_000_000 for at in admitted)
        allowed = (await limits.spend_window(KEY, rate)).allowed
        assert allowed == (lately < amount)
        if allowed:
            admitted.append(moment.now)


@settings(max_examples=examples(60))
@given(amount=st.integers(1, 9), waits=WAITS_US, exact=st.booleans())
async def test_what_a_standing_says_comes_true(amount: int, waits: list[int], exact: bool) -> None:
    moment, rate = Moment(), Rate(amount)
    limits = LocalLimits(moment)
    spend = limits.spend_window if exact else limits.spend
    for wait in waits:
        moment.now += wait
        standing = await spend(KEY, rate)
        if standing.allowed:
            assert 0 < standing.wait_s <= 60
            continue
        assert standing.remaining == 0
        moment.now += round(standing.wait_s * 1e6) - 1
        assert not (await spend(KEY, rate)).allowed, "one microsecond too soon"
        moment.now += 1
        assert (await spend(KEY, rate)).allowed
    left = (await spend(KEY, rate)).remaining
    assert [(await spend(KEY, rate)).allowed for _ in range(left + 1)] == [True] * left + [False]


async def test_a_burst_and_an_even_pace_together_are_less_than_twice_the_amount_a_minute(moment: Moment) -> None:
    limits, rate = LocalLimits(moment), Rate(10)
    at_once = [(await limits.spend(KEY, rate)).allowed for _ in range(11)]
    assert at_once == [True] * 10 + [False]
    paced = []
    for _ in range(9):
        moment.now += 6_000_000
        paced.append((await limits.spend(KEY, rate)).allowed)
    assert all(paced), "19 in 54 seconds: what an exact limit is there for"


async def test_a_look_counts_nothing(moment: Moment) -> None:
    limits, rate = LocalLimits(moment), Rate(2)
    assert [(await limits.look(KEY, rate)).remaining for _ in range(3)] == [2, 2, 2]
    for _ in range(2):
        await limits.spend(KEY, rate)
    refused = await limits.look(KEY, rate)
    assert (refused.allowed, refused.wait_s) == (False, 30)


async def test_keys_and_rules_are_apart(moment: Moment) -> None:
    limits, rate = LocalLimits(moment), Rate(1)
    for key in (KEY, ("key", "globex", "key_1")):
        assert (await limits.spend(key, rate)).allowed
        assert (await limits.spend_window(key, rate)).allowed


async def test_this_process_remembers_a_bounded_number_of_clients(moment: Moment) -> None:
    limits, rate = LocalLimits(moment), Rate(1)
    for number in range(COUNTERS + 10):
        for spend in (limits.spend, limits.spend_window):
            await spend(("key", str(number)), rate)
    assert len(limits) == 2 * COUNTERS
    assert (await limits.spend(("key", "0"), rate)).allowed, "the one unseen for longest was forgotten"
    assert not (await limits.spend(("key", str(COUNTERS + 9)), rate)).allowed
