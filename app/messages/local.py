"""Messages inside one process: a call, bounded."""

import asyncio
from dataclasses import dataclass
from typing import Any

from app.errors import ConfigError
from app.messages.base import RETRY_AFTER_S, Answered, Asked, Handler, NoAnswer, Topic, no_answer
from app.messages.observed import expected, observed
from app.telemetry.metrics import Metrics


@dataclass(slots=True)
class _Served:
    handler: Handler[Any, Any]
    slots: asyncio.Semaphore


class LocalMessenger:
    """`Messenger` of one process. A message is handed over as it is: both sides are frozen dataclasses."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._served: dict[str, _Served] = {}

    def serve(self, topic: Topic[Asked, Answered], handler: Handler[Asked, Answered]) -> None:
        if topic.name in self._served:
            raise ConfigError(f"The topic '{topic.name}' is served twice.")
        self._served[topic.name] = _Served(handler, asyncio.Semaphore(topic.concurrency))
        expected(self._metrics, topic)

    async def ask(self, topic: Topic[Asked, Answered], message: Asked, *, key: str, timeout_s: float) -> Answered:  # noqa: ARG002 - a call needs no order
        with observed(self._metrics, topic):
            return await self._handled(topic, message, timeout_s)

    async def _handled(self, topic: Topic[Asked, Answered], message: Asked, timeout_s: float) -> Answered:
        served = self._served.get(topic.name)
        if served is None:
            raise NoAnswer(f"Nobody serves '{topic.name}' in this process.", retry_after=RETRY_AFTER_S)
        try:
            async with asyncio.timeout(timeout_s) as limit, served.slots:
                answer: Answered = await served.handler(message)
                return answer
        except TimeoutError:
            if not limit.expired():
                raise
            raise no_answer(topic, timeout_s) from None

    async def start(self, *, serve: bool) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""
