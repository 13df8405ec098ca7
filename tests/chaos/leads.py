"""Leads under a fault: each is sent until it is acknowledged, with one Idempotency-Key; then they are counted."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.load import Client, Try

AGAIN_S = 0.2
MESSAGE = "What does the Operate plan cost for 40 sensors on annual billing?"


@dataclass
class Senders:
    """Sends leads by number; keeps who was acknowledged. `patience_s`: how long one lead is sent again and again, each
    time after `again_s`."""

    client: Client
    patience_s: float = 0.0
    again_s: float = AGAIN_S
    acknowledged: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    tries: list[Try] = field(default_factory=list)

    async def send(self, number: int) -> Try:
        """The first try; where it fails, further ones follow until there is patience no more."""
        name = f"chaos-{number}"
        self.sent.add(name)
        first = last = await self._once(name)
        while not last.ok and last.began - first.began < self.patience_s:
            await asyncio.sleep(self.again_s)
            last = await self._once(name)
        return first

    async def resend(self) -> None:
        """Once more what was not acknowledged."""
        for name in sorted(self.sent - self.acknowledged):
            await self._once(name)

    async def _once(self, name: str) -> Try:
        body = {
            "external_id": name,
            "name": f"Person {name}",
            "email": f"{name}@example.org",
            "company": "Example Dairy",
            "language": "en",
            "message": MESSAGE,
        }
        tried = await self.client.post("/v1/leads", body, Idempotency_Key=name)
        self.tries.append(tried)
        if tried.ok:
            self.acknowledged.add(name)
        return tried


def lost_and_doubled(acknowledged: Iterable[str], found: Iterable[str]) -> tuple[int, int]:
    """Names that were acknowledged and are not among those found, and names that were found more than once."""
    rows = list(found)
    return len(set(acknowledged) - set(rows)), len(rows) - len(set(rows))
