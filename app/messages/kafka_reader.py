"""The threads that read from Kafka: librdkafka's consumers block, the event loop must not."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

_POLL_S: Final = 0.1
_AGAIN_S: Final = 2.0
MOST_HELD: Final = 64
_RETENTION_MS: Final = 60 * 60 * 1000
_log = structlog.get_logger(__name__)


class Topics:
    """Makes topics that are not there; with 0 partitions somebody else does. A message is of no use after its asker
    gave up: an hour is kept."""

    MAX_BYTES: Final = 8 << 20

    def __init__(self, connection: Mapping[str, str | bool], partitions: int) -> None:
        self.connection: dict[str, str | int | float | bool] = dict(connection)
        self._partitions = partitions

    def make(self, names: Sequence[str]) -> None:
        """Blocks. Raises KafkaException where no broker answers, or the account may not."""
        if not self._partitions:
            return
        settings = {"max.message.bytes": str(self.MAX_BYTES), "retention.ms": str(_RETENTION_MS)}
        admin = AdminClient(self.connection)
        wanted = [NewTopic(name, num_partitions=self._partitions, config=settings) for name in names]
        made = admin.create_topics(wanted, operation_timeout=10, request_timeout=10)
        for future in made.values():
            try:
                future.result()
            except KafkaException as problem:
                if problem.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise


class Reader(threading.Thread):
    """Reads until it is told to leave; what it reads is given to `take` on the event loop.

    Where no broker answers it tries again every two seconds; `ready` is set once it reads.
    """

    def __init__(
        self,
        topics: Topics,
        names: Sequence[str],
        consumer: Consumer,
        begin: Callable[[Consumer], None],
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Message], None],
        producer: Producer | None,
    ) -> None:
        super().__init__(name=f"kafka-{names[0]}", daemon=True)
        self.ready = asyncio.Event()
        self.paused = False
        self._topics = topics
        self._names = names
        self._consumer = consumer
        self._begin = begin
        self._loop = loop
        self._take = take
        self._producer = producer
        self._leaving = threading.Event()
        self._held = threading.Semaphore(MOST_HELD)
        self._done: deque[Message] = deque()
        self._bounded = producer is None

    @classmethod
    def of_group(
        cls,
        topics: Topics,
        group: str,
        names: Sequence[str],
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Message], None],
    ) -> "Reader":
        """One of the processes that share the topics' messages. Each message given must come back to `done`."""
        settings = {
            **topics.connection,
            "group.id": group,
            "auto.offset.reset": "earliest",
            # Stored by `done`, committed every second: never before the answer was sent.
            "enable.auto.offset.store": False,
            "auto.commit.interval.ms": 1000,
            "session.timeout.ms": 10_000,
            # A topic that is made later, or grows, is seen in this time.
            "topic.metadata.refresh.interval.ms": 10_000,
        }
        return cls(
            topics, names, Consumer(settings), lambda consumer: consumer.subscribe(list(names)), loop, take, None
        )

    @classmethod
    def of_answers(
        cls,
        topics: Topics,
        name: str,
        loop: asyncio.AbstractEventLoop,
        take: Callable[[Message], None],
        producer: Producer,
    ) -> "Reader":
        """Reads all that comes from now on. It also serves the producer's own events, which need a thread."""
        settings = {**topics.connection, "group.id": f"{name}.readers", "enable.auto.commit": False}

        def from_now_on(consumer: Consumer) -> None:
            consumer.assign(ends_of(consumer, name))

        return cls(topics, [name], Consumer(settings), from_now_on, loop, take, producer)

    def run(self) -> None:
        while not self._leaving.is_set() and not self._opened():
            self._leaving.wait(_AGAIN_S)
        while not self._leaving.is_set():
            self._read()
        self._store()
        self._consumer.close()

    def _opened(self) -> bool:
        try:
            self._topics.make(self._names)
            self._begin(self._consumer)
        except KafkaException as problem:
            _log.warning("kafka_not_ready", topics=self._names, problem=problem.args[0].str())
            return False
        self._loop.call_soon_threadsafe(self.ready.set)
        return True

    def _read(self) -> None:
        self._store()
        if self._producer is not None:
            self._producer.poll(0)
        # Beyond what is held, no message is taken on; polling in vain would look like being busy.
        if self._bounded and not self._held.acquire(timeout=_POLL_S):
            return
        message = None if self.paused else self._consumer.poll(_POLL_S)
        if message is None or message.error() is not None:
            if self._bounded:
                self._held.release()
            if message is not None:
                _log.warning("kafka_read_failed", topics=self._names, problem=str(message.error()))
            if self.paused:
                self._leaving.wait(_POLL_S)
            return
        self._loop.call_soon_threadsafe(self._take, message)

    def done(self, message: Message) -> None:
        """The message needs nobody any more. Given to the thread: a consumer is not for two at a time."""
        self._done.append(message)
        self._held.release()

    def _store(self) -> None:
        while self._done:
            message = self._done.popleft()
            try:
                self._consumer.store_offsets(message)
            except KafkaException:
                # Its partition went to another process meanwhile, which gets the message again.
                _log.info("kafka_partition_gone", topic=message.topic(), partition=message.partition())

    def pause(self) -> None:
        """Gives nothing more."""
        self.paused = True

    def leave(self) -> None:
        """Blocks until the thread ended; stored offsets are committed."""
        self._leaving.set()
        self.join(timeout=15)


def ends_of(consumer: Consumer, name: str) -> list[TopicPartition]:
    """Where each partition of the topic ends now. Raises KafkaException where it has none yet, as one that was made a
    moment ago: what is assigned once is all that is ever read."""
    topic = consumer.list_topics(name, timeout=3).topics[name]
    if topic.error is not None or not topic.partitions:
        raise KafkaException(topic.error or KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    ends = [(number, consumer.get_watermark_offsets(TopicPartition(name, number))) for number in topic.partitions]
    return [TopicPartition(name, number, end) for number, (_, end) in ends]
