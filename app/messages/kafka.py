"""Messages over Kafka: agents in other processes, scaled by themselves. See docs/decisions/0020-messages.md.

Each topic is read by one consumer group, so a message goes to one process. A partition's messages are handled in
their order, and its offset is stored after the answer was sent: a process that dies leaves its message to another.
Answers come back on one topic that every process reads; each picks its own.
"""

import asyncio
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from opentelemetry.trace import SpanKind

from app.errors import ConfigError, TooLarge
from app.ids import new_id
from app.messages.base import RETRY_AFTER_S, Answered, Asked, Handler, NoAnswer, Topic, no_answer
from app.messages.kafka_reader import Reader, Topics
from app.messages.observed import expected, observed
from app.messages.wire import dump, dump_error, load, load_error
from app.settings import Settings, revealed
from app.telemetry import names, spans
from app.telemetry.metrics import Metrics

REPLIES: Final = "replies"
_ID, _TO, _UNTIL, _ERROR = "id", "to", "until", "error"
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Served:
    """A topic that this process handles, and the last message of each partition that is under way."""

    topic: Topic[Any, Any]
    handler: Handler[Any, Any]
    slots: asyncio.Semaphore
    last: dict[int, asyncio.Task[None]] = field(default_factory=dict)


def connection(settings: Settings) -> dict[str, str | bool]:
    """How librdkafka reaches the cluster and signs in."""
    reached: dict[str, str | bool] = {"bootstrap.servers": settings.kafka_url or "", "allow.auto.create.topics": False}
    if settings.kafka_user:
        reached |= {
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": settings.kafka_user,
            "sasl.password": revealed(settings.kafka_password) or "",
        }
    tls, signs_in = settings.kafka_tls, bool(settings.kafka_user)
    reached["security.protocol"] = ("SASL_" if signs_in else "") + ("SSL" if tls else "PLAINTEXT")
    return reached


class KafkaMessenger:
    """`Messenger` over a Kafka cluster.

    Args:
        connection: of librdkafka (`bootstrap.servers`, and what the cluster asks for to sign in).
        prefix: before every topic's name, and the name of the group that shares their work: several installations
            may share a cluster.
        partitions: of a topic that this process makes; no more processes than that can share its work. 0 makes none.
    """

    def __init__(
        self,
        connection: Mapping[str, str | bool],
        *,
        metrics: Metrics,
        prefix: str = "trellis",
        partitions: int = 12,
    ) -> None:
        self._connection = dict(connection)
        self._metrics = metrics
        self._prefix = prefix
        self._topics = Topics(self._connection, partitions)
        self._me = new_id("messenger")
        self._served: dict[str, _Served] = {}
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._producer: Producer | None = None
        self._readers: list[Reader] = []

    def serve(self, topic: Topic[Asked, Answered], handler: Handler[Asked, Answered]) -> None:
        name = self._name(topic.name)
        if name in self._served:
            raise ConfigError(f"The topic '{topic.name}' is served twice.")
        self._served[name] = _Served(topic, handler, asyncio.Semaphore(topic.concurrency))
        expected(self._metrics, topic)

    async def start(self, *, serve: bool) -> None:
        """Returns at once, also where no broker answers yet: it is looked for until it does, and until then nobody
        answers."""
        loop = asyncio.get_running_loop()
        self._producer = Producer({**self._connection, "linger.ms": 1, "message.max.bytes": Topics.MAX_BYTES})
        self._readers.append(Reader.of_answers(self._topics, self._name(REPLIES), loop, self._answered, self._producer))
        if serve and self._served:
            self._readers.append(Reader.of_group(self._topics, self._prefix, list(self._served), loop, self._asked))
        for reader in self._readers:
            reader.start()

    async def close(self) -> None:
        """Messages that are under way end first; those that were read and not begun are left to another process."""
        for reader in self._readers:
            reader.pause()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for reader in self._readers:
            await asyncio.to_thread(reader.leave)
        self._readers.clear()
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, 5)
            self._producer = None

    async def ask(self, topic: Topic[Asked, Answered], message: Asked, *, key: str, timeout_s: float) -> Answered:
        with observed(self._metrics, topic), spans.span(f"ask {topic.name}", _told(topic), SpanKind.PRODUCER):
            answer = await self._exchanged(topic, dump(message), key, timeout_s)
            headers = _headers(answer)
            if _ERROR in headers:
                raise load_error(answer.value() or b"")
            loaded: Answered = load(topic.answered, answer.value() or b"")
            return loaded

    async def _exchanged(self, topic: Topic[Any, Any], data: bytes, key: str, timeout_s: float) -> Message:
        number = new_id("message")
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await self._ready()
                headers = {_ID: number, _TO: self._me, _UNTIL: str(time.time() + timeout_s), **spans.carrier()}
                self._send(self._name(topic.name), data, key, headers, future)
                answer: Message = await future
                return answer
        except TimeoutError:
            if not limit.expired():
                raise
            raise no_answer(topic, timeout_s) from None
        finally:
            del self._waiting[number]

    async def _ready(self) -> None:
        """Until answers can be read: what is asked before would wait in vain."""
        if not self._readers:
            raise ConfigError("The messenger is not started.")
        await self._readers[0].ready.wait()

    def _send(
        self, topic: str, data: bytes, key: str, headers: Mapping[str, str], future: asyncio.Future[Message] | None
    ) -> None:
        assert self._producer is not None
        loop = asyncio.get_running_loop()

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None and future is not None:
                loop.call_soon_threadsafe(_fail, future, _undelivered(topic, error))

        try:
            self._producer.produce(topic, data, key, headers=list(headers.items()), on_delivery=delivered)
        except BufferError:
            raise NoAnswer("Too many messages wait for the Kafka cluster.", retry_after=RETRY_AFTER_S) from None
        except KafkaException as problem:
            raise _undelivered(topic, problem.args[0]) from None

    def _answered(self, message: Message) -> None:
        """On the event loop: an answer that may be for this process."""
        headers = _headers(message)
        if headers.get(_TO) != self._me:
            return
        future = self._waiting.get(headers.get(_ID, ""))
        if future is not None and not future.done():
            future.set_result(message)

    def _asked(self, message: Message) -> None:
        """On the event loop: a message of a topic that is served here, after the ones of its partition before it."""
        served = self._served[message.topic() or ""]
        partition = message.partition() or 0
        task = asyncio.create_task(self._in_order(served, message, served.last.get(partition)))
        served.last[partition] = task
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._ended, served, partition))

    def _ended(self, served: _Served, partition: int, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if served.last.get(partition) is task:
            del served.last[partition]

    async def _in_order(self, served: _Served, message: Message, before: asyncio.Task[None] | None) -> None:
        reader = self._readers[-1]
        if before is not None:
            await asyncio.wait([before])
        if reader.paused:
            return
        try:
            headers = _headers(message)
            if time.time() < float(headers.get(_UNTIL, 0)):
                async with served.slots:
                    await self._handle(served, message, headers)
        except Exception:
            # No answer can be sent. Given again it would fail again: whoever asked hears nothing and asks anew.
            _log.error("message_handling_failed", topic=served.topic.name, exc_info=True)
        reader.done(message)

    async def _handle(self, served: _Served, message: Message, headers: Mapping[str, str]) -> None:
        reply = {_ID: headers[_ID], _TO: headers[_TO]}
        came_with = spans.continued(headers)
        with spans.span(f"handle {served.topic.name}", _told(served.topic), SpanKind.CONSUMER, came_with) as span:
            try:
                answer = dump(await served.handler(load(served.topic.asked, message.value() or b"")))
            except Exception as problem:
                spans.fail(span, problem)
                _log.warning("message_refused", topic=served.topic.name, exc_info=True)
                reply[_ERROR], answer = "1", dump_error(problem)
        try:
            self._send(self._name(REPLIES), answer, headers[_TO], reply, None)
        except TooLarge as problem:
            self._send(self._name(REPLIES), dump_error(problem), headers[_TO], {**reply, _ERROR: "1"}, None)

    def _name(self, topic: str) -> str:
        return f"{self._prefix}.{topic}"


def _told(topic: Topic[Any, Any]) -> dict[str, str]:
    return {names.MESSAGING_SYSTEM: "kafka", names.MESSAGING_DESTINATION: topic.name}


def _headers(message: Message) -> dict[str, str]:
    found: Any = message.headers()
    return {name: _text(value) for name, value in found or ()}


def _text(value: str | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def _fail(future: asyncio.Future[Message], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _undelivered(topic: str, error: KafkaError) -> Exception:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return TooLarge(f"A message to '{topic}' is larger than {Topics.MAX_BYTES} bytes: send less at a time.")
    return NoAnswer(f"The Kafka cluster did not take a message to '{topic}': {error.str()}.", retry_after=RETRY_AFTER_S)
