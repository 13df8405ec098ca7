"""Rate limits that all processes share, on a Redis server of the test's own."""

import asyncio
import signal
import subprocess
from collections.abc import Iterator

import pytest
import redis.asyncio as client
from prometheus_client import CollectorRegistry

from app.errors import RateLimited
from app.http.rates import RateLimits, RatePlan
from app.principal import Principal, Role, Tier
from app.telemetry.metrics import Metrics
from tests.support.components import require
from tests.support.postgres import free_port

PLAN = RatePlan({Tier.FREE: 5, Tier.STANDARD: 600, Tier.PRO: 6000}, failures_per_minute=3)
FREE = Principal("acme", "key_1", Role.AGENT, Tier.FREE)


@pytest.fixture
def redis(tmp_path) -> Iterator[tuple[str, subprocess.Popen]]:
    """Its address and its process."""
    port = free_port()
    command = [require("redis"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"redis://127.0.0.1:{port}/0", process
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(timeout=10)


def limits(url: str) -> RateLimits:
    return RateLimits(Metrics(CollectorRegistry()), redis_url=url, plan=PLAN)


async def until_up(url: str) -> None:
    connection = client.Redis.from_url(url)
    for _ in range(100):
        try:
            await connection.ping()
            break
        except client.ConnectionError:
            await asyncio.sleep(0.05)
    await connection.aclose()


async def test_two_processes_share_one_allowance(redis):
    url, _ = redis
    await until_up(url)
    first, second = limits(url), limits(url)
    allowed = [(await rates.spend(FREE))[0] for rates in (first, second) * 4]
    assert allowed == [True] * 5 + [False] * 3
    other = Principal("globex", "key_1", Role.AGENT, Tier.FREE)
    assert (await first.spend(other))[0], "another tenant's key of the same name has its own"
    for rates in (first, second):
        await rates.close()


async def test_failures_are_shared_too(redis):
    url, _ = redis
    await until_up(url)
    first, second = limits(url), limits(url)
    for _ in range(3):
        await first.check_failures("10.0.0.1")
        await first.failed("10.0.0.1")
    with pytest.raises(RateLimited):
        await second.check_failures("10.0.0.1")
    await second.check_failures("10.0.0.2")
    for rates in (first, second):
        await rates.close()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_redis_that_dies_or_hangs_costs_one_short_wait_and_no_request(redis, fault):
    url, process = redis
    await until_up(url)
    rates = limits(url)
    assert (await rates.spend(FREE))[0]
    process.send_signal(fault)
    allowed = [(await rates.spend(FREE))[0] for _ in range(7)]
    assert allowed == [True] * 5 + [False] * 2, "this process counts by itself"
    await rates.close()


async def test_keys_carry_their_strategy(redis):
    url, _ = redis
    await until_up(url)
    rates = limits(url)
    await rates.spend(FREE)
    connection = client.Redis.from_url(url, decode_responses=True)
    (key,) = await connection.keys("*")
    assert key == "trellis:limits:{sliding-window-counter/acme/key_1/5/1/minute}"
    await connection.aclose()
    await rates.close()


async def test_two_processes_hold_a_user_to_exactly_their_limit(redis):
    url, _ = redis
    await until_up(url)
    first, second = limits(url), limits(url)
    user = Principal("acme", "user:u-1", Role.USER, Tier.FREE, "u-1")
    spent = await asyncio.gather(*(rates.spend_user(user, "chat", 10) for rates in (first, second) * 15))
    assert sum(allowed for allowed, _ in spent) == 10
    allowed, allowance = await second.spend_user(user, "chat", 10)
    assert (allowed, allowance.remaining) == (False, 0)
    assert 1 <= allowance.reset_s <= 60
    other = Principal("globex", "user:u-1", Role.USER, Tier.FREE, "u-1")
    assert (await first.spend_user(other, "chat", 10))[0], "another tenant's user of the same name has their own"
    for rates in (first, second):
        await rates.close()
