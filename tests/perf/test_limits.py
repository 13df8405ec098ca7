"""What a decision of the limiter costs, in this process and over Redis, beside a bare PING; and that four processes
are allowed exactly what one would be.

Run with `pytest tests/perf/test_limits.py -s`.
"""

import time
from collections.abc import Awaitable, Callable

import pytest

from app.cache.connection import connect
from app.cache.limits import LocalLimits, Rate, RedisLimits, redis_key
from tests.perf.figures import record
from tests.support.hammering import four_processes
from tests.support.redis import RedisServer

TIMES = 5_000
# Most are allowed: a refusal writes nothing and costs less.
RATE = Rate(1_000_000)
KEY = ("key", "acme", "key_1")


async def cost(name: str, work: Callable[[], Awaitable[object]]) -> dict[str, float]:
    for _ in range(TIMES // 20):
        await work()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(TIMES):
        await work()
    return {
        f"{name}_us": (time.perf_counter() - wall) / TIMES * 1e6,
        f"{name}_cpu_us": (time.process_time() - cpu) / TIMES * 1e6,
    }


async def test_limiter_in_this_process() -> None:
    limits, small = LocalLimits(), Rate(10)
    record(
        "limiter, in process",
        **await cost("rate", lambda: limits.spend(KEY, RATE)),
        **await cost("window", lambda: limits.spend_window(KEY, small)),
    )


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_limiter_over_redis(kind: str, redis_server: RedisServer, redis_cluster: str) -> None:
    link = connect(redis_cluster if kind == "cluster" else redis_server.url)
    limits, small = RedisLimits(link, LocalLimits()), Rate(10)
    figures = await cost("rate", lambda: limits.spend(KEY, RATE))
    figures |= await cost("window", lambda: limits.spend_window(("user", "chat"), small))
    figures |= await cost("ping", lambda: link.client.execute_command("PING"))
    record(f"limiter, over Redis ({kind}), one after the other", **figures)
    assert link.away == 0
    await link.close()


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_limiter_from_four_processes(kind: str, redis_server: RedisServer, redis_cluster: str) -> None:
    url, amount, seconds = redis_cluster if kind == "cluster" else redis_server.url, 1_000, 3.0
    link = connect(url)
    for rule in ("rate", "window"):
        await link.run(lambda commands: commands.delete(redis_key(("shared", rule))))  # noqa: B023
    (rate, refused), (window, refused_by_window) = await four_processes(url, amount, seconds)
    record(
        f"limiter, four processes on one key ({kind})",
        allowed=amount,
        admitted_by_rate=rate,
        admitted_by_window=window,
        decisions_a_second=(rate + refused + window + refused_by_window) / (2 * seconds),
    )
    assert (rate, window) == (amount, amount)
    await link.close()
