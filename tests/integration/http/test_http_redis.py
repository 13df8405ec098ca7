"""Rate limits that all processes share, on a Redis server of the test's own."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry

from app.cache.connection import connect
from app.errors import RateLimited
from app.http.rates import RateLimits, RatePlan
from app.principal import Principal, Role, Tier
from app.telemetry.metrics import Metrics
from tests.support.redis import RedisServer, running

PLAN = RatePlan({Tier.FREE: 5, Tier.STANDARD: 600, Tier.PRO: 6000}, failures_per_minute=3)
FREE = Principal("acme", "key_1", Role.AGENT, Tier.FREE)
Process = Callable[[], RateLimits]


@pytest.fixture
def server(tmp_path) -> Iterator[RedisServer]:
    with running(tmp_path) as server:
        yield server
        server.process.send_signal(signal.SIGCONT)


@pytest.fixture
async def process(server) -> AsyncIterator[Process]:
    """The limits of another process each time."""
    links = []

    def made() -> RateLimits:
        links.append(connect(server.url))
        return RateLimits(Metrics(CollectorRegistry()), redis=links[-1], plan=PLAN)

    yield made
    for link in links:
        await link.close()


async def test_two_processes_share_one_allowance(process):
    first, second = process(), process()
    allowed = [(await rates.spend(FREE))[0] for rates in (first, second) * 4]
    assert allowed == [True] * 5 + [False] * 3
    other = Principal("globex", "key_1", Role.AGENT, Tier.FREE)
    assert (await first.spend(other))[0], "another tenant's key of the same name has its own"


async def test_failures_are_shared_too(process):
    first, second = process(), process()
    for _ in range(3):
        await first.check_failures("10.0.0.1")
        await first.failed("10.0.0.1")
    with pytest.raises(RateLimited) as caught:
        await second.check_failures("10.0.0.1")
    assert 1 <= caught.value.retry_after <= 20
    await second.check_failures("10.0.0.2")


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_redis_that_dies_or_hangs_costs_one_short_wait_and_no_request(server, process, fault):
    rates = process()
    assert (await rates.spend(FREE))[0]
    server.process.send_signal(fault)
    allowed = [(await rates.spend(FREE))[0] for _ in range(7)]
    assert allowed == [True] * 5 + [False] * 2, "this process counts by itself"


async def test_two_processes_hold_a_user_to_exactly_their_limit(process):
    first, second = process(), process()
    user = Principal("acme", "user:u-1", Role.USER, Tier.FREE, "u-1")
    spent = await asyncio.gather(*(rates.spend_user(user, "chat", 10) for rates in (first, second) * 15))
    assert sum(allowed for allowed, _ in spent) == 10
    allowed, allowance = await second.spend_user(user, "chat", 10)
    assert (allowed, allowance.remaining) == (False, 0)
    assert 1 <= allowance.reset_s <= 60
    other = Principal("globex", "user:u-1", Role.USER, Tier.FREE, "u-1")
    assert (await first.spend_user(other, "chat", 10))[0], "another tenant's user of the same name has their own"
