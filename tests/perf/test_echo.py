"""`POST /v1/leads` on a real socket beside a bare FastAPI echo with a key check: requests a second, CPU a request."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.perf.figures import record
from tests.perf.target import Target
from tests.support.service import lead

ROUNDS = 3
LEADS = [lead(email=f"ada{number}@example.org") for number in range(300)]
ECHOED = LEADS * 3


@pytest.mark.skipif(sys.platform != "linux", reason="the CPU time of another process is read as Linux has it")
def test_echo(benchmark: Any, tmp_path: Path) -> None:
    echo = Target.start("bare", "/v1/echo")
    ours = Target.start("ours", "/v1/leads", str(tmp_path))

    async def warm() -> None:
        for target, bodies in ((echo, ECHOED), (ours, LEADS)):
            await target.ready(bodies[0])
            await target.round(bodies, keep=False)

    async def both() -> None:
        await echo.round(ECHOED)
        await ours.round(LEADS)

    try:
        asyncio.run(warm())
        benchmark.pedantic(lambda: asyncio.run(both()), rounds=ROUNDS)
    finally:
        echo.end()
        ours.end()
    for name, target in (("echo_bare", echo), ("echo_post_leads", ours)):
        record(name, requests_per_s=1 / min(target.wall), cpu_ms_per_request=min(target.cpu) * 1000)
    record("echo", cpu_ratio=min(ours.cpu) / min(echo.cpu), time_ratio=min(ours.wall) / min(echo.wall))
