"""Questions to two bots: one whose answers are kept, and one that has to make each of them anew."""

import asyncio
from dataclasses import dataclass

from tests.chaos.load import Client, Load, Try

QUESTION = "How long is the warranty on a sensor, and what does it cover?"
BOTS = ("known", "fresh")
PHASE_S = 10.0
P99_RATIO = 1.5
"""Two servers that do the same differ by that much in the 99th percentile of some hundreds of answers."""


@dataclass
class Questions:
    """For one service, with `cached_rate` and `fresh_rate` of each kind a second."""

    client: Client
    cached_rate: float
    fresh_rate: float
    asked: int = 0

    async def prepare(self) -> None:
        """Also warms both ways up: a first request loads what later ones have."""
        await self.client.put("/v1/bots/fresh", {"semantic_threshold": None})
        for _ in range(50):
            for each in (await self.known(), await self.fresh()):
                if not each.ok:
                    raise RuntimeError(f"the service does not answer: {each}")

    async def known(self, _number: int = 0) -> Try:
        return await self.client.post("/v1/bots/known/chat", {"message": QUESTION, "history": []})

    async def fresh(self, _number: int = 0) -> Try:
        self.asked += 1
        body = {"message": f"{QUESTION} I have bought {self.asked} of them.", "history": []}
        return await self.client.post("/v1/bots/fresh/chat", body)

    async def both(self) -> tuple[list[Try], list[Try]]:
        """Both kinds for the same seconds: those with a kept answer, and those without."""
        async with Load(self.known, self.cached_rate) as cached, Load(self.fresh, self.fresh_rate) as fresh:
            await asyncio.sleep(PHASE_S)
        return cached.tries, fresh.tries
