"""Where a reader of answers begins."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from app.messages.kafka_reader import ends_of


def consumer(partitions: dict[int, Any], error: KafkaError | None = None) -> Consumer:
    topic = SimpleNamespace(error=error, partitions=partitions)
    return cast(
        Consumer,
        SimpleNamespace(
            list_topics=lambda name, timeout: SimpleNamespace(topics={name: topic}),
            get_watermark_offsets=lambda partition: (0, 7 + partition.partition),
        ),
    )


def test_answers_are_read_from_the_present_end_of_every_partition() -> None:
    found = ends_of(consumer({0: None, 1: None}), "replies")
    assert [(end.topic, end.partition, end.offset) for end in found] == [("replies", 0, 7), ("replies", 1, 8)]


@pytest.mark.parametrize("error", [None, KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)])
def test_a_topic_without_partitions_is_not_begun(error: KafkaError | None) -> None:
    with pytest.raises(KafkaException):
        ends_of(consumer({}, error), "replies")
