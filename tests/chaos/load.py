"""Requests at a steady rate, whatever becomes of them, and what became of them."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import numpy as np
import orjson

TIMEOUT_S = 30.0
# Less than the server's own five seconds: a request on a connection that it is closing has no answer.
IDLE_S = 3.0
PROBLEM = "urn:trellis:problem:"
EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Try:
    """One request: when it began (monotonic seconds), how long it took, the status (0: no answer), the problem's code.

    `body` is the answer's JSON, None where it had none.
    """

    began: float
    took_s: float
    status: int
    code: str = ""
    body: Any = None

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class Client:
    """Asks one server with one key; a connection that breaks is an outcome and no error."""

    def __init__(self, session: aiohttp.ClientSession, address: str, key: str) -> None:
        self._session = session
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    async def get(self, path: str) -> Try:
        return await self._ask("GET", path, None, {})

    async def post(self, path: str, body: Any, **headers: str) -> Try:
        return await self._ask("POST", path, body, headers)

    async def put(self, path: str, body: Any) -> Try:
        return await self._ask("PUT", path, body, {})

    async def delete(self, path: str) -> Try:
        return await self._ask("DELETE", path, None, {})

    async def text(self, path: str) -> str:
        """An answer that is no JSON. Raises aiohttp.ClientError where there is none."""
        async with self._session.get(self._address + path, headers=self._headers) as response:
            return await response.text()

    async def _ask(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Try:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else orjson.dumps(body)
        began = time.monotonic()
        try:
            async with self._session.request(
                method, self._address + path, data=data, headers=self._headers | more
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Try(began, time.monotonic() - began, 0, type(error).__name__)
        answer = orjson.loads(raw) if raw and "json" in response.content_type else None
        code = answer["type"].removeprefix(PROBLEM) if response.status >= 400 and answer else ""
        return Try(began, time.monotonic() - began, response.status, code, answer)


def session() -> aiohttp.ClientSession:
    """For clients: many connections, each answer awaited for at most half a minute."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))


@dataclass
class Load:
    """`async with Load(send, rate):` sends `send(n)` for n = 0, 1, ... at `rate` a second until the block ends, then
    waits for what is under way. Late answers hold no later request back. An error of `send` is raised at the end."""

    send: Callable[[int], Awaitable[Try]]
    rate: float
    first: int = 0
    tries: list[Try] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._under_way: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._pace = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._pace.cancel()
        await asyncio.wait([self._pace])
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._errors:
            raise self._errors[0]

    async def _run(self) -> None:
        began = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
            task = asyncio.create_task(self._one(self.first + number))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _one(self, number: int) -> None:
        try:
            self.tries.append(await self.send(number))
        except Exception as error:
            self._errors.append(error)


def failed(tries: Iterable[Try]) -> int:
    return sum(not each.ok for each in tries)


def codes(tries: Iterable[Try]) -> dict[str, int]:
    """How often each kind of failure came."""
    found: dict[str, int] = {}
    for each in tries:
        if not each.ok:
            kind = f"{each.status} {each.code}".strip()
            found[kind] = found.get(kind, 0) + 1
    return found


def percentile_ms(tries: Sequence[Try], share: float) -> float:
    """Of the times of those that were answered; nan where none was."""
    times = [each.took_s for each in tries if each.ok]
    return float(np.percentile(times, share)) * 1000 if times else float("nan")


async def until_answered(ask: Callable[[], Awaitable[Try]], limit_s: float) -> float | None:
    """Seconds until `ask` is answered with success, asked ten times a second; None where it is not in time."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        if (await ask()).ok:
            return time.monotonic() - began
        await asyncio.sleep(EVERY_S)
    return None
