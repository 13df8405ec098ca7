"""Somebody who writes all the time, and goes where writes are taken."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import orjson

PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Written:
    """One acknowledged write: when it was begun (monotonic seconds), and how long it took with all its tries."""

    began: float
    took_s: float


@dataclass
class Writer:
    """Sends leads at a steady rate; each again, under its own key of idempotency, until it is acknowledged.

    `addresses` are tried in turn: whoever refuses or does not answer is left for the next one, after `pause_s`.
    """

    addresses: list[str]
    key: str
    per_second: float
    pause_s: float = PAUSE_S
    acknowledged: dict[str, str] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)
    _place: int = 0
    _number: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Until `stop`, and until all that was begun is acknowledged."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session, asyncio.TaskGroup() as group:
            began = time.monotonic()
            while not self._stop.is_set():
                self._number += 1
                group.create_task(self._write(session, f"live-{self._number}"))
                await asyncio.sleep(max(0.0, began + self._number / self.per_second - time.monotonic()))

    def stop(self) -> None:
        self._stop.set()

    async def wait_for(self, more: int) -> None:
        """Until so many more are acknowledged."""
        wanted = len(self.acknowledged) + more
        while len(self.acknowledged) < wanted:
            await asyncio.sleep(PAUSE_S)

    def p99_ms(self, since: float, until: float) -> float:
        """Of those that were begun and acknowledged in that time."""
        taken = [one.took_s for one in self.written if since <= one.began and one.began + one.took_s < until]
        return float(np.percentile(taken, 99)) * 1000 if taken else 0.0

    def longest_s(self, since: float, until: float) -> float:
        """Of those that were begun in that time."""
        return max((one.took_s for one in self.written if since <= one.began < until), default=0.0)

    async def _write(self, session: aiohttp.ClientSession, name: str) -> None:
        body = {"external_id": name, "name": "Nova", "email": f"{name}@example.org", "message": "What does it cost?"}
        began = time.monotonic()
        while True:
            place = self._place
            answer = await self._send(session, self.addresses[place], name, body)
            if answer is not None:
                self.acknowledged[name] = answer["id"]
                self.written.append(Written(began, time.monotonic() - began))
                return
            if place == self._place:
                self._place = (place + 1) % len(self.addresses)
            await asyncio.sleep(self.pause_s)

    async def _send(self, session: aiohttp.ClientSession, address: str, name: str, body: Any) -> Any:
        try:
            async with session.post(
                f"{address}/v1/leads", data=orjson.dumps(body), headers={"Idempotency-Key": name}
            ) as response:
                answer = orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._count(type(error).__name__)
            return None
        if response.status < 300:
            return answer["lead"]
        self._count(f"{response.status} {answer['type'].rpartition(':')[2]}")
        return None

    def _count(self, refusal: str) -> None:
        self.refusals[refusal] = self.refusals.get(refusal, 0) + 1


def compared(acknowledged: dict[str, str], found: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """How many acknowledged leads are not there under the id that was told, and how many are there more than once."""
    there: dict[str, list[str]] = {}
    for name, lead_id in found:
        there.setdefault(name, []).append(lead_id)
    lost = sum(there.get(name) is None or lead_id not in there[name] for name, lead_id in acknowledged.items())
    return lost, sum(len(ids) > 1 for ids in there.values())
