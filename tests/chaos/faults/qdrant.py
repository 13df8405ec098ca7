"""Qdrant answers 5 s late, or not at all. No Qdrant server can be had here: a fake with its shapes stands in for it."""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.fault import Promise, Seen, Stage
from tests.chaos.house import House, furnish, serving
from tests.chaos.load import Client, Load, Try, codes, failed, percentile_ms, session, until_answered
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.wire import Wire

QUESTION = "How long is the warranty on a sensor, and what does it cover?"
CACHED_RATE, FRESH_RATE = 40.0, 8.0
PHASE_S = 10.0
RECOVERY_S = 20.0
TIMEOUT_S = 2
P99_RATIO = 1.5
TYPED = frozenset({"unavailable", "breaker-open"})


@dataclass
class _Questions:
    client: Client
    asked: int = 0

    async def prepare(self) -> None:
        await self.client.put("/v1/bots/fresh", {"semantic_threshold": None})
        for _ in range(20):
            for each in (await self.known(0), await self.fresh()):
                if not each.ok:
                    raise RuntimeError(f"the service does not answer: {each}")

    async def known(self, _number: int) -> Try:
        return await self.client.post("/v1/bots/known/chat", {"message": QUESTION, "history": []})

    async def fresh(self, _number: int = 0) -> Try:
        self.asked += 1
        body = {"message": f"{QUESTION} I have bought {self.asked} of them.", "history": []}
        return await self.client.post("/v1/bots/fresh/chat", body)

    async def phase(self) -> tuple[list[Try], list[Try]]:
        """Both kinds for the same seconds: those with a kept answer, and those without."""
        async with Load(self.known, CACHED_RATE) as cached, Load(self.fresh, FRESH_RATE) as fresh:
            await asyncio.sleep(PHASE_S)
        return cached.tries, fresh.tries


class _Qdrant:
    """One of two servers has the fault on its way to Qdrant; the other is asked the same in the same seconds."""

    needs: tuple[str, ...] = ()

    def strike(self, wire: Wire) -> None:
        raise NotImplementedError

    async def run(self, stage: Stage) -> Seen:
        enter = stage.stack.enter_async_context
        fake = await enter(FakeQdrant())
        wire = stage.stack.enter_context(Wire(urlsplit(fake.url).port or 0))
        house = await furnish(stage.folder / "ill", _settings(fake.url), bots=("known", "fresh"))
        copied = Path(shutil.copytree(house.home, stage.folder / "well"))
        struck = House(house.home, _settings(f"http://127.0.0.1:{wire.port}"), house.keys)
        whole = House(copied, _settings(fake.url), house.keys)
        http = await enter(session())
        servers = [await enter(serving(each)) for each in (struck, whole)]
        asked, control = (_Questions(Client(http, server.address, house.key)) for server in servers)
        await asyncio.gather(asked.prepare(), control.prepare())
        stage.tell("both kinds of questions, one server's Qdrant struck")
        await asyncio.to_thread(self.strike, wire)
        (cached, fresh), (cached_whole, _fresh) = await asyncio.gather(asked.phase(), control.phase())
        await asyncio.to_thread(wire.heal)
        stage.tell("waiting for the first answer")
        recovery_s = await until_answered(asked.fresh, RECOVERY_S)
        return _seen(cached, fresh, cached_whole, recovery_s)


def _settings(url: str) -> dict[str, Any]:
    return {"vectors_url": url, "vectors_key": KEY, "vectors_timeout_s": TIMEOUT_S, "worker": False}


def _seen(cached: list[Try], fresh: list[Try], whole: list[Try], recovery_s: float | None) -> Seen:
    refused = [each for each in fresh if not each.ok]
    p99, p99_control = percentile_ms(cached, 99), percentile_ms(whole, 99)
    return Seen(
        tried=len(cached) + len(fresh),
        failed=failed(cached) + len(refused),
        recovery_s=recovery_s,
        kinds=codes([*cached, *fresh]),
        figures={
            "cached_failed": failed(cached),
            "cached_p99_ms": p99,
            "control_p99_ms": p99_control,
            "cached_p99_ratio": p99 / p99_control,
            "untyped_errors": sum(each.code not in TYPED for each in refused),
            "slowest_s": max(each.took_s for each in fresh),
            "answered_without_evidence": sum(each.ok and not each.body["citations"] for each in fresh),
        },
    )


PROMISE = Promise(
    "cached answers as fast as ever; others refused with a typed error in 5 s, none answered without evidence; the "
    "service finds Qdrant again by itself",
    recovery_s=20,
    figures={
        "cached_failed": 0,
        "cached_p99_ratio": P99_RATIO,
        "untyped_errors": 0,
        "slowest_s": 5,
        "answered_without_evidence": 0,
    },
)


class QdrantSlow(_Qdrant):
    name = "qdrant-slow"
    title = "Qdrant answers 5 s late"
    promise = PROMISE

    def strike(self, wire: Wire) -> None:
        wire.delay(5)


class QdrantGone(_Qdrant):
    name = "qdrant-gone"
    title = "Qdrant is gone: connections are reset, new ones refused"
    promise = PROMISE

    def strike(self, wire: Wire) -> None:
        wire.cut()
