"""Qdrant answers 5 s late, or not at all. No Qdrant server can be had here: a fake with its shapes stands in for it."""

import asyncio
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.fault import Promise, Seen, Stage
from tests.chaos.house import House, furnish, serving
from tests.chaos.load import Client, Try, codes, failed, percentile_ms, session, until_answered
from tests.chaos.questions import BOTS, P99_RATIO, Questions
from tests.support.fakes.qdrant import KEY, FakeQdrant
from tests.support.wire import Wire

CACHED_RATE, FRESH_RATE = 40.0, 8.0
RECOVERY_S = 20.0
TIMEOUT_S = 2
TYPED = frozenset({"unavailable", "breaker-open"})


class _Qdrant:
    """One of two servers has the fault on its way to Qdrant; the other is asked the same in the same seconds."""

    needs: tuple[str, ...] = ()

    def strike(self, wire: Wire) -> None:
        raise NotImplementedError

    async def run(self, stage: Stage) -> Seen:
        enter = stage.stack.enter_async_context
        fake = await enter(FakeQdrant())
        wire = stage.stack.enter_context(Wire(urlsplit(fake.url).port or 0))
        house = await furnish(stage.folder / "ill", _settings(fake.url), bots=BOTS)
        copied = Path(shutil.copytree(house.home, stage.folder / "well"))
        struck = House(house.home, _settings(f"http://127.0.0.1:{wire.port}"), house.keys)
        whole = House(copied, _settings(fake.url), house.keys)
        http = await enter(session())
        servers = [await enter(serving(each)) for each in (struck, whole)]
        clients = [Client(http, server.address, house.key) for server in servers]
        asked, control = (Questions(client, CACHED_RATE, FRESH_RATE) for client in clients)
        await asyncio.gather(asked.prepare(), control.prepare())
        stage.tell("both kinds of questions, one server's Qdrant struck")
        await asyncio.to_thread(self.strike, wire)
        (cached, fresh), (cached_whole, _fresh) = await asyncio.gather(asked.both(), control.both())
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
