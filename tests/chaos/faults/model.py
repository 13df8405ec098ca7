"""The model provider is slow, resets connections, resets one in eight, or is gone."""

import asyncio
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.agent.breaker import BreakerState
from loadtest.stub.server import KEY, Fault, Latency, ModelStub, text
from tests.chaos.fault import Promise, Seen, Stage
from tests.chaos.house import House, furnish, serving
from tests.chaos.load import Client, Try, codes, failed, percentile_ms, session, until_answered
from tests.chaos.questions import BOTS, P99_RATIO, Questions

CACHED_RATE, FRESH_RATE = 50.0, 15.0
OPEN, CLOSED = float(BreakerState.OPEN), float(BreakerState.CLOSED)
CALL_S = 1.0
RECOVERY_S = 30.0
TYPED = frozenset({"model-unavailable", "deadline-exceeded", "breaker-open"})
ANSWER = "The warranty on a sensor is two years and covers its electronics and its housing. [1]"
_CALLS = re.compile(r"^trellis_model_call_duration_seconds_count\{.*\} (\S+)$", re.MULTILINE)
_BREAKER = re.compile(r'^trellis_breaker_state\{.*name="model:.*\} (\S+)$', re.MULTILINE)


@dataclass
class Provider(ModelStub):
    """`resets`: the share of requests (0 to 1) whose connection it resets without an answer."""

    resets: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(7))

    def trouble(self) -> Fault | None:
        return Fault(status=0) if self.chance.random() < self.resets else None


@dataclass
class Phase:
    """Both kinds of questions for the same seconds, and the calls to the provider that the service made meanwhile."""

    cached: list[Try]
    fresh: list[Try]
    calls: float

    @property
    def extra(self) -> float:
        """Calls beyond one for each question that needs one, as a share of these."""
        return self.calls / len(self.fresh) - 1


class _Model:
    """Some questions have their answer kept; the others need one call to the provider each.

    A second server over a copy of the data, whose provider is well, is asked the same in the same seconds: what this
    machine does beside is in the times of both.
    """

    needs: tuple[str, ...] = ()
    breaker_opens = True

    async def strike(self, provider: Provider) -> None:
        raise NotImplementedError

    async def heal(self, provider: Provider) -> None:
        raise NotImplementedError

    async def run(self, stage: Stage) -> Seen:
        enter = stage.stack.enter_async_context
        ill, well = [await enter(Provider(answer=text(ANSWER), keep=False)) for _ in range(2)]
        house = await furnish(stage.folder / "ill", _settings(ill), bots=BOTS)
        other = House(Path(shutil.copytree(house.home, stage.folder / "well")), _settings(well), house.keys)
        http = await enter(session())
        servers = [await enter(serving(each)) for each in (house, other)]
        clients = [Client(http, server.address, house.key) for server in servers]
        asked, control = (_Questions(client, CACHED_RATE, FRESH_RATE) for client in clients)
        stage.tell("warming both servers")
        await asyncio.gather(asked.prepare(), control.prepare())
        await self.strike(ill)
        stage.tell("both kinds of questions, one server's provider struck")
        struck, whole = await asyncio.gather(asked.phase(), control.phase())
        during = await asked.breaker()
        await self.heal(ill)
        stage.tell("waiting for the first answer")
        recovery_s = await until_answered(asked.fresh, RECOVERY_S)
        return self.seen(struck, whole, recovery_s, (during, await asked.breaker()))

    def seen(self, struck: Phase, whole: Phase, recovery_s: float | None, breaker: tuple[float, float]) -> Seen:
        p99, p99_control = percentile_ms(struck.cached, 99), percentile_ms(whole.cached, 99)
        refused = [each for each in struck.fresh if not each.ok]
        return Seen(
            tried=len(struck.cached) + len(struck.fresh),
            failed=failed(struck.cached) + len(refused),
            recovery_s=recovery_s,
            kinds=codes([*struck.cached, *struck.fresh]),
            figures={
                "cached_failed": failed(struck.cached),
                "cached_p99_ms": p99,
                "control_p99_ms": p99_control,
                "cached_p99_ratio": p99 / p99_control,
                "extra_calls": struck.extra,
                "untyped_errors": sum(each.code not in TYPED for each in refused),
                "slowest_refusal_s": max((each.took_s for each in refused), default=0.0),
                "breaker_wrong": float(breaker != (OPEN if self.breaker_opens else CLOSED, CLOSED)),
            },
        )


def _settings(provider: Provider) -> dict[str, Any]:
    return {
        "model_url": provider.url,
        "model_key": KEY,
        "model_name": "m",
        "model_timeout_s": CALL_S,
        "worker": False,
    }


class _Questions(Questions):
    async def phase(self) -> Phase:
        before = await self._metric(_CALLS)
        cached, fresh = await self.both()
        return Phase(cached, fresh, await self._metric(_CALLS) - before)

    async def breaker(self) -> float:
        return await self._metric(_BREAKER)

    async def _metric(self, pattern: re.Pattern[str]) -> float:
        shown = await self.client.text("/metrics")
        return sum(float(value) for value in pattern.findall(shown))


FIGURES = {
    "cached_failed": 0,
    "cached_p99_ratio": P99_RATIO,
    "extra_calls": 0.1,
    "untyped_errors": 0,
    "breaker_wrong": 0,
}


class ModelSlow(_Model):
    name = "model-slow"
    title = "Model provider takes 20 s for an answer"
    promise = Promise(
        "cached answers as fast as ever; others refused with a typed error in 3 s; at most 10 % extra calls; the "
        "breaker opens, and closes again",
        recovery_s=20,
        figures=FIGURES | {"slowest_refusal_s": 3},
    )

    async def strike(self, provider: Provider) -> None:
        provider.latency = Latency(20)

    async def heal(self, provider: Provider) -> None:
        provider.latency = Latency()


class ModelResetting(_Model):
    name = "model-resetting"
    title = "Model provider resets every connection"
    promise = Promise(
        "cached answers as fast as ever; others refused with a typed error in 3 s; at most 10 % extra calls; the "
        "breaker opens, and closes again",
        recovery_s=20,
        figures=FIGURES | {"slowest_refusal_s": 3},
    )

    async def strike(self, provider: Provider) -> None:
        provider.resets = 1.0

    async def heal(self, provider: Provider) -> None:
        provider.resets = 0.0


class ModelFlaky(ModelResetting):
    name = "model-flaky"
    title = "Model provider resets one connection in eight"
    breaker_opens = False
    promise = Promise(
        "cached answers as fast as ever; at most 10 % extra calls; the breaker stays closed, so that most "
        "others are answered",
        recovery_s=1,
        figures=FIGURES | {"slowest_refusal_s": 3, "fresh_failed_share": 0.2},
    )

    async def strike(self, provider: Provider) -> None:
        provider.resets = 0.125

    def seen(self, struck: Phase, whole: Phase, recovery_s: float | None, breaker: tuple[float, float]) -> Seen:
        seen = super().seen(struck, whole, recovery_s, breaker)
        seen.figures["fresh_failed_share"] = failed(struck.fresh) / len(struck.fresh)
        return seen


class ModelGone(_Model):
    name = "model-gone"
    title = "Model provider is gone: nobody listens"
    promise = Promise(
        "cached answers as fast as ever; others refused with a typed error in 3 s; at most 10 % extra calls; the "
        "breaker opens, and closes again",
        recovery_s=20,
        figures=FIGURES | {"slowest_refusal_s": 3},
    )

    async def strike(self, provider: Provider) -> None:
        await provider.__aexit__()

    async def heal(self, provider: Provider) -> None:
        await provider.__aenter__()
