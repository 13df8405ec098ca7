"""`POST /v1/leads` on a real socket beside a bare FastAPI echo with a key check: requests a second, CPU a request."""

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

from tests.perf.figures import record
from tests.support.server import READY_S, ROOT, free_port
from tests.support.service import lead

REQUESTS = 300
CLIENTS = 8
ROUNDS = 3
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Target:
    """A server process, and what its rounds took: seconds of the clock and of its CPU, a request."""

    process: "subprocess.Popen[str]"
    address: str
    key: str
    times: int
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, path: str, times: int, *arguments: str) -> Self:
        port = free_port()
        command = [sys.executable, "-m", "tests.perf.serving", name, str(port), *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return cls(process, f"http://127.0.0.1:{port}{path}", process.stdout.readline().strip(), times)

    def cpu_s(self) -> float:
        """CPU time of the process so far, its threads included."""
        after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / TICKS_A_SECOND

    async def round(self, *, keep: bool = True) -> None:
        started, cpu = time.perf_counter(), self.cpu_s()
        await post(self.address, self.key, self.times)
        if keep:
            self.wall.append((time.perf_counter() - started) / self.times)
            self.cpu.append((self.cpu_s() - cpu) / self.times)

    async def answers(self) -> None:
        async with asyncio.timeout(READY_S):
            while True:
                try:
                    return await post(self.address, self.key, 1)
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


async def post(address: str, key: str, times: int) -> None:
    """So many requests, on a few connections that stay open. Every one must succeed."""
    left = iter(range(times))

    async def client(session: aiohttp.ClientSession) -> None:
        for number in left:
            async with session.post(address, json=lead(email=f"ada{number}@example.org")) as response:
                assert response.status < 300, await response.text()
                await response.read()

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session:
        await asyncio.gather(*(client(session) for _ in range(min(CLIENTS, times))))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc, which has the CPU time of a process")
def test_echo(benchmark: Any, tmp_path: Path) -> None:
    echo = Target.start("bare", "/v1/echo", 3 * REQUESTS)
    ours = Target.start("ours", "/v1/leads", REQUESTS, str(tmp_path))

    async def warm() -> None:
        for target in (echo, ours):
            await target.answers()
            await target.round(keep=False)

    async def both() -> None:
        await echo.round()
        await ours.round()

    try:
        asyncio.run(warm())
        benchmark.pedantic(lambda: asyncio.run(both()), rounds=ROUNDS)
    finally:
        echo.end()
        ours.end()
    for name, target in (("echo_bare", echo), ("echo_post_leads", ours)):
        record(name, requests_per_s=1 / min(target.wall), cpu_ms_per_request=min(target.cpu) * 1000)
    record("echo", cpu_ratio=min(ours.cpu) / min(echo.cpu), time_ratio=min(ours.wall) / min(echo.wall))
