"""Messages between agents: who asks need not know whether the other runs in this process."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from app.errors import Unavailable

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")

RETRY_AFTER_S: Final = 5.0

Handler = Callable[[Asked], Awaitable[Answered]]
"""Must bear being given the same message twice: delivery is at least once."""


@dataclass(frozen=True, slots=True)
class Topic(Generic[Asked, Answered]):
    """A named kind of message with the frozen dataclasses that go there and come back.

    `concurrency` bounds how many messages one process handles at a time; who asks beyond it waits.
    """

    name: str
    asked: type[Asked]
    answered: type[Answered]
    concurrency: int = 4


class NoAnswer(Unavailable):
    """Nobody answered in time: nobody serves the topic, or whoever does is gone."""

    code, title = "no-answer", "Another agent did not answer"


def no_answer(topic: Topic[Any, Any], timeout_s: float) -> NoAnswer:
    """The error of an ask that took too long."""
    return NoAnswer(f"'{topic.name}' did not answer within {timeout_s:g} s.", retry_after=RETRY_AFTER_S)


class Messenger(Protocol):
    """Asks the agent that serves a topic.

    In process by default; over Kafka where `TRELLIS_KAFKA_URL` is set. What a handler raises as a TrellisError comes
    out of `ask` as the same kind of error.
    """

    def serve(self, topic: Topic[Asked, Answered], handler: Handler[Asked, Answered]) -> None:
        """Before `start`. Raises ConfigError for a topic that is served already."""
        ...

    async def ask(self, topic: Topic[Asked, Answered], message: Asked, *, key: str, timeout_s: float) -> Answered:
        """The answer. Messages with the same `key` go to one place in their order.

        Raises NoAnswer after `timeout_s`, and what the handler raised.
        """
        ...

    async def start(self, *, serve: bool) -> None:
        """Ready to ask; with `serve`, this process also handles what it was told to."""
        ...

    async def close(self) -> None:
        """Takes no more messages, lets those under way end."""
        ...
