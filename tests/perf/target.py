"""A server under measurement: a process of its own, asked over a socket, its CPU time read from outside."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

from tests.support.server import READY_S, ROOT, free_port

CLIENTS = 8
Check = Callable[[Any], None]


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, its threads included, to the nanosecond."""
    # The clock's number, as clock_getcpuclockid(3) makes it; Python has that for threads alone.
    return time.clock_gettime(~pid << 3 | 2)


@dataclass
class Target:
    """A server process, and what its rounds took: seconds of the clock and of its CPU, a request."""

    process: "subprocess.Popen[str]"
    address: str
    key: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, path: str, *arguments: str) -> Self:
        """`name` and `arguments` as `tests.perf.serving` has them."""
        port = free_port()
        command = [sys.executable, "-m", "tests.perf.serving", name, str(port), *arguments]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return cls(process, f"http://127.0.0.1:{port}{path}", process.stdout.readline().strip())

    async def round(self, bodies: Sequence[Any], *, check: Check | None = None, keep: bool = True) -> None:
        """Posts every body, on a few connections that stay open; every answer must be one, and pass `check`."""
        started, cpu = time.perf_counter(), cpu_s(self.process.pid)
        await self._post(bodies, check)
        if keep:
            self.wall.append((time.perf_counter() - started) / len(bodies))
            self.cpu.append((cpu_s(self.process.pid) - cpu) / len(bodies))

    async def ready(self, body: Any) -> None:
        """Returns once the server answers."""
        await until_up(lambda: self._post([body], None))

    async def _post(self, bodies: Sequence[Any], check: Check | None) -> None:
        left = iter(bodies)

        async def client(session: aiohttp.ClientSession) -> None:
            for body in left:
                async with session.post(self.address, json=body) as response:
                    assert response.status < 300, await response.text()
                    answer = await response.json()
                if check is not None:
                    check(answer)

        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.key}"}) as session:
            await asyncio.gather(*(client(session) for _ in range(min(CLIENTS, len(bodies)))))

    def end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


async def until_up(call: Callable[[], Awaitable[None]]) -> None:
    """Calls until somebody listens."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                return await call()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
