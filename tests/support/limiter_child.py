"""A process that spends from two keys: `python -m tests.support.limiter_child <url> <amount> <s>`, from each for so
many seconds, and until it was refused.

Says "ready", waits for a line, then prints how many uses were allowed and refused, by rate and then by window.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from unittest.mock import patch

from app.cache.connection import connect
from app.cache.limits import LocalLimits, Rate, RedisLimits, Standing
from tests.support.redis import TIMEOUT_S, TRIP_S

AT_ONCE = 8
# Nothing comes back within a test.
DAY_S = 86_400


async def main(url: str, amount: int, seconds: float) -> None:
    link = connect(url)
    limits, rate = RedisLimits(link, LocalLimits()), Rate(amount, DAY_S)
    await link.run(lambda commands: commands.get("warm"))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    counts = [
        count
        for name, spend in (("rate", limits.spend), ("window", limits.spend_window))
        for count in await hammered(partial(spend, ("shared", name), rate), seconds)
    ]
    assert link.away == 0, "it counted by itself"
    print(*counts, flush=True)
    await link.close()


async def hammered(spend: Callable[[], Awaitable[Standing]], seconds: float) -> tuple[int, int]:
    """How many uses were allowed, and how many refused."""
    ends, counts = time.monotonic() + seconds, [0, 0]

    async def hammer() -> None:
        while time.monotonic() < ends or not counts[False]:
            counts[(await spend()).allowed] += 1

    await asyncio.gather(*(hammer() for _ in range(AT_ONCE)))
    return counts[True], counts[False]


if __name__ == "__main__":
    with patch.multiple("app.cache.connection", TIMEOUT_S=TIMEOUT_S, TRIP_S=TRIP_S):
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
