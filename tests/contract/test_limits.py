"""Redis and this process let the same through; four processes together, exactly what is allowed."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cache import limits as module
from app.cache.connection import RedisLink, connect
from app.cache.limits import LocalLimits, Rate, RedisLimits, Standing, redis_key
from tests.support.examples import examples
from tests.support.hammering import four_processes
from tests.support.postgres import free_port
from tests.support.redis import RedisServer

KEY = ("key", "acme", "key_1")
CLOCK = "redis.call('TIME')"
START_US = 1_700_000_000_000_000


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    made = connect(redis_server.url)
    await made.client.flushall()
    yield made
    await made.close()


@pytest.fixture(params=["one server", "cluster"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster"))
    return str(request.getfixturevalue("redis_server").url)


def at(moment_us: int, script: str) -> str:
    """The script with that moment in the place of the server's clock."""
    assert script.count(CLOCK) == 1
    return script.replace(CLOCK, f"{{{moment_us // 1_000_000}, {moment_us % 1_000_000}}}")


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amount=st.integers(1, 8),
    steps=st.lists(st.tuples(st.integers(0, 25_000_000), st.sampled_from(["spend", "look"])), max_size=30),
    exact=st.booleans(),
)
async def test_redis_lets_through_and_says_what_this_process_does(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch, amount: int, steps: list[tuple[int, str]], exact: bool
) -> None:
    await link.client.delete(redis_key(KEY))
    rate, now = Rate(amount), START_US
    local, shared = LocalLimits(lambda: now), RedisLimits(link, LocalLimits())
    scripts = module.GCRA, module.WINDOW
    for wait, step in steps:
        now += wait
        name = "spend_window" if exact else step
        with monkeypatch.context() as patched:
            for script, text in zip(("GCRA", "WINDOW"), scripts, strict=True):
                patched.setattr(module, script, at(now, text))
            assert await getattr(shared, name)(KEY, rate) == await getattr(local, name)(KEY, rate)


@pytest.mark.parametrize(("rule", "script"), [("spend", "GCRA"), ("spend_window", "WINDOW")])
async def test_a_server_clock_that_goes_back_holds_nobody_longer_than_a_window_more(
    link: RedisLink, monkeypatch: pytest.MonkeyPatch, rule: str, script: str
) -> None:
    limits, rate, text = RedisLimits(link, LocalLimits()), Rate(2), getattr(module, script)

    async def spend(moment_us: int) -> Standing:
        monkeypatch.setattr(module, script, at(moment_us, text))
        found: Standing = await getattr(limits, rule)(KEY, rate)
        return found

    for _ in range(2):
        assert (await spend(START_US)).allowed
    back = START_US - 1_000_000
    assert not (await spend(back)).allowed, "a second back: nothing is given twice"
    hour = START_US - 3_600_000_000
    await spend(hour)
    assert (await spend(hour + 120_000_000)).allowed


async def test_a_key_is_one_key_names_nobody_and_ends_by_itself(link: RedisLink) -> None:
    limits, who = RedisLimits(link, LocalLimits()), ("user", "chat", "acme", "ann@example.org")
    await limits.spend(KEY, Rate(6))
    await limits.spend_window(who, Rate(6))
    keys = {key.decode(): await link.client.pttl(key) for key in await link.client.keys("*")}
    assert set(keys) == {redis_key(KEY), redis_key(who)}
    assert 0 < keys[redis_key(KEY)] <= 10_000
    assert 0 < keys[redis_key(who)] <= 60_000
    assert not any("ann" in key for key in keys)


async def test_a_server_that_forgot_its_scripts_is_told_them_again(link: RedisLink) -> None:
    limits, rate = RedisLimits(link, LocalLimits()), Rate(2)
    assert (await limits.spend(KEY, rate)).remaining == 1
    await link.client.script_flush()
    assert (await limits.spend(KEY, rate)).remaining == 0
    assert link.away == 0


async def test_while_redis_is_away_this_process_counts_by_itself() -> None:
    told: list[str] = []
    link = connect(f"redis://127.0.0.1:{free_port()}/0", told=told.append)
    limits, rate = RedisLimits(link.use("limiter"), LocalLimits()), Rate(2)
    for spend in (limits.spend, limits.spend_window):
        assert [(await spend(KEY, rate)).allowed for _ in range(3)] == [True, True, False]
    assert not (await limits.look(KEY, rate)).allowed
    assert told == ["limiter"] * 7
    await link.close()


async def test_four_processes_on_one_key_are_allowed_exactly_what_one_would_be(url: str) -> None:
    link, amount = connect(url), 500
    for rule in ("rate", "window"):
        await link.run(lambda commands: commands.delete(redis_key(("shared", rule))))  # noqa: B023
    for allowed, refused in await four_processes(url, amount, 0.7):
        assert allowed == amount
        assert refused > 0
    await link.close()
