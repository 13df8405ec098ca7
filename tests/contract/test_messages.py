"""Messages between agents behave the same in process and over Kafka's own protocol.

The brokers are librdkafka's mock cluster: real sockets on loopback, real wire format, groups and offsets.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from app.errors import BudgetExceeded, ConfigError, InvalidInput, NotFound, TooLarge
from app.ids import new_id
from app.messages.base import Messenger, NoAnswer, Topic
from app.messages.kafka import REPLIES, KafkaMessenger
from app.messages.kafka_reader import MOST_HELD
from app.messages.local import LocalMessenger
from app.messages.wire import HandlerFailed
from app.telemetry.metrics import Metrics

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Part:
    at: datetime
    amounts: dict[str, int | float | bool | str]


@dataclass(frozen=True, slots=True)
class Asked:
    name: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Answered:
    text: str
    parts: list[Part]


ECHO = Topic("tests.echo", Asked, Answered, concurrency=2)
OTHER = Topic("tests.other", Asked, Answered)
SILENT = Topic("tests.silent", Asked, Answered)


class Agents:
    """What the handlers of these tests do, told by the message's name."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.order: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def echo(self, asked: Asked) -> Answered:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            self.order.append(asked.name)
            return self._answer(asked)
        finally:
            self.running -= 1

    def _answer(self, asked: Asked) -> Answered:
        match asked.name:
            case "missing":
                raise NotFound("There is no customer 'x'.", customer="x")
            case "spent":
                raise BudgetExceeded("The budget is spent.", retry_after=77.0, scope="tenant")
            case "broken":
                raise ValueError("a secret in a text")
        return Answered(asked.name.upper(), asked.parts)


class Brokers:
    """A mock cluster that lives as long as this object. Its topics come to be by being asked for."""

    def __init__(self) -> None:
        self._cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "replaced", "log_level": 0})
        found = self._cluster.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in found)

    def with_topics(self) -> str:
        """A new prefix under which every topic of these tests is there."""
        prefix = new_id("t").lower()
        for name in (REPLIES, ECHO.name, OTHER.name):
            self._cluster.list_topics(f"{prefix}.{name}", timeout=10)
        return prefix


@pytest.fixture(scope="module")
def brokers() -> Brokers:
    return Brokers()


def over_kafka(address: str, prefix: str) -> KafkaMessenger:
    connection = {"bootstrap.servers": address, "log_level": 0}
    return KafkaMessenger(connection, metrics=Metrics(CollectorRegistry()), prefix=prefix, partitions=0)


@pytest.fixture
def agents() -> Agents:
    return Agents()


@dataclass
class Place:
    """A messenger that asks, and is served by the agents of the test that runs."""

    asking: Messenger
    agents: Agents

    async def echo(self, asked: Asked) -> Answered:
        return await self.agents.echo(asked)


@pytest_asyncio.fixture(params=["local", "kafka"], scope="module", loop_scope="module")
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Served by itself, or by another over the brokers: a group takes seconds to form, so it is one for all tests."""
    if request.param == "local":
        asking = serving = LocalMessenger(Metrics(CollectorRegistry()))
    else:
        brokers: Brokers = request.getfixturevalue("brokers")
        prefix = brokers.with_topics()
        asking, serving = (over_kafka(brokers.address, prefix) for _ in range(2))
    place = Place(asking, Agents())
    serving.serve(ECHO, place.echo)
    serving.serve(OTHER, place.echo)
    await serving.start(serve=True)
    if asking is not serving:
        await asking.start(serve=False)
    yield place
    await asking.close()
    if asking is not serving:
        await serving.close()


@pytest.fixture
def messenger(place: Place, agents: Agents) -> Messenger:
    place.agents = agents
    return place.asking


def asked(name: str, parts: int = 1) -> Asked:
    at = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    return Asked(name, [Part(at, {"whole": 3, "part": 0.5, "yes": True, "word": "é"}) for _ in range(parts)])


async def ask(
    messenger: Messenger, name: str, *, key: str = "k", parts: int = 1, timeout_s: float = PATIENCE_S
) -> Answered:
    return await messenger.ask(ECHO, asked(name), key=key, timeout_s=timeout_s)


async def test_an_answer_is_the_dataclass_that_the_topic_declares(messenger: Messenger) -> None:
    assert await ask(messenger, "one") == Answered("ONE", asked("one").parts)
    assert (await messenger.ask(OTHER, asked("two"), key="k", timeout_s=PATIENCE_S)).text == "TWO"


async def test_errors_come_out_as_what_they_were(messenger: Messenger) -> None:
    with pytest.raises(NotFound, match="no customer 'x'") as missing:
        await ask(messenger, "missing")
    assert missing.value.extra == {"customer": "x"}
    with pytest.raises(BudgetExceeded) as spent:
        await ask(messenger, "spent")
    assert (spent.value.retry_after, spent.value.extra) == (77.0, {"scope": "tenant"})


async def test_another_error_fails_the_ask_and_no_other(messenger: Messenger) -> None:
    with pytest.raises((HandlerFailed, ValueError)) as failed:
        await ask(messenger, "broken")
    if isinstance(failed.value, HandlerFailed):
        assert "secret" not in str(failed.value)
    assert (await ask(messenger, "next")).text == "NEXT"


async def test_messages_of_one_key_are_answered_in_their_order(messenger: Messenger, agents: Agents) -> None:
    await ask(messenger, "first")
    names = [f"n{number}" for number in range(12)]
    await asyncio.gather(*(ask(messenger, name) for name in names))
    assert agents.order == ["first", *names]


async def test_no_more_are_handled_at_a_time_than_the_topic_says(messenger: Messenger, agents: Agents) -> None:
    await ask(messenger, "first")
    answers = await asyncio.gather(*(ask(messenger, str(number), key=str(number)) for number in range(20)))
    assert [answer.text for answer in answers] == [str(number) for number in range(20)]
    assert 1 <= agents.most <= ECHO.concurrency


async def test_who_waits_too_long_is_told_and_nothing_begins_later(messenger: Messenger, agents: Agents) -> None:
    await ask(messenger, "first")
    agents.gate.clear()
    waiting = [asyncio.create_task(ask(messenger, f"held{n}", timeout_s=0.5)) for n in range(4)]
    for task in waiting:
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.5 s"):
            await task
    agents.gate.set()
    assert (await ask(messenger, "after")).text == "AFTER"
    # Of one key only the first had begun.
    assert {"held2", "held3"}.isdisjoint(agents.order)


async def test_a_topic_that_nobody_serves_gives_no_answer(messenger: Messenger) -> None:
    with pytest.raises(NoAnswer):
        await messenger.ask(SILENT, asked("one"), key="k", timeout_s=0.5)


@pytest.mark.parametrize(
    "fresh", [LocalMessenger(Metrics(CollectorRegistry())), over_kafka("127.0.0.1:1", "t")], ids=["local", "kafka"]
)
async def test_a_topic_is_served_once(fresh: Messenger, agents: Agents) -> None:
    fresh.serve(ECHO, agents.echo)
    with pytest.raises(ConfigError, match="served twice"):
        fresh.serve(ECHO, agents.echo)


async def test_a_message_that_is_too_large_is_one_sentence(brokers: Brokers, agents: Agents) -> None:
    one = over_kafka(brokers.address, brokers.with_topics())
    one.serve(ECHO, agents.echo)
    await one.start(serve=True)
    with pytest.raises((TooLarge, InvalidInput), match="send less at a time"):
        await ask(one, "x" * (9 << 20))
    await one.close()


async def test_messages_that_nobody_can_read_do_not_stop_those_behind_them(brokers: Brokers, agents: Agents) -> None:
    prefix = brokers.with_topics()
    stranger = Producer({"bootstrap.servers": brokers.address, "log_level": 0})
    for _ in range(MOST_HELD + 1):
        stranger.produce(f"{prefix}.{ECHO.name}", b"?", "k", headers=[("until", "soon")])
    assert await asyncio.to_thread(stranger.flush, 10) == 0
    one = over_kafka(brokers.address, prefix)
    one.serve(ECHO, agents.echo)
    with capture_logs() as logs:
        await one.start(serve=True)
        answer = await ask(one, "one", timeout_s=30)
    await one.close()
    assert answer.text == "ONE"
    assert sum(line["event"] == "message_handling_failed" for line in logs) == MOST_HELD + 1


async def test_what_a_process_leaves_another_takes(brokers: Brokers) -> None:
    """The first one read the message and never came to its end, as one that is killed."""
    prefix = brokers.with_topics()
    first, second, asking = (over_kafka(brokers.address, prefix) for _ in range(3))
    begun, handled = asyncio.Event(), []

    def handler(name: str, wait: bool) -> Callable[[Asked], object]:
        async def handle(asked: Asked) -> Answered:
            handled.append(name)
            begun.set()
            if wait:
                await asyncio.Event().wait()
            return Answered(name, [])

        return handle

    first.serve(ECHO, handler("first", True))
    second.serve(ECHO, handler("second", False))
    await first.start(serve=True)
    await asking.start(serve=False)
    asks = asyncio.create_task(ask(asking, "one", timeout_s=60))
    await begun.wait()
    # As a killed process: its task is gone without an answer, its consumer leaves the group.
    for task in list(first._tasks):
        task.cancel()
    await first.close()
    await second.start(serve=True)
    assert (await asks).text == "second"
    assert handled == ["first", "second"]
    await second.close()
    await asking.close()


async def test_without_a_broker_it_starts_and_nobody_answers(agents: Agents) -> None:
    lonely = over_kafka("127.0.0.1:1", "t")
    lonely.serve(ECHO, agents.echo)
    await lonely.start(serve=True)
    with pytest.raises(NoAnswer):
        await ask(lonely, "one", timeout_s=0.3)
    await lonely.close()
