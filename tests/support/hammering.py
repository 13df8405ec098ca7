"""Four processes that spend from the same keys."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from typing import Any


async def four_processes(url: str, amount: int, seconds: float) -> list[tuple[int, int]]:
    """How many uses were allowed and how many refused, in all: by rate, by window."""
    words = [sys.executable, "-m", "tests.support.limiter_child", url, str(amount), str(seconds)]
    children = [await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE) for _ in range(4)]
    pipes: list[tuple[Any, Any]] = [(child.stdin, child.stdout) for child in children]
    for _, said in pipes:
        assert await said.readline() == b"ready\n"
    for told, _ in pipes:
        told.write(b"go\n")
    counts = [list(map(int, (await said.readline()).split())) for _, said in pipes]
    for child in children:
        await child.wait()
    sums = [sum(column) for column in zip(*counts, strict=True)]
    return [(sums[0], sums[1]), (sums[2], sums[3])]
