"""What every messenger counts of an ask."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.messages.base import NoAnswer, Topic
from app.telemetry.metrics import Metrics

OUTCOMES = ("answered", "failed", "unanswered")


def expected(metrics: Metrics, topic: Topic[Any, Any]) -> None:
    """Puts a topic that is served at 0: the first message that fails is then an increase."""
    for outcome in OUTCOMES:
        metrics.messages.labels(topic.name, outcome)


@contextmanager
def observed(metrics: Metrics, topic: Topic[Any, Any]) -> Iterator[None]:
    """Times the ask and counts how it ended: answered, failed, or unanswered."""
    started, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "answered"
    except NoAnswer:
        outcome = "unanswered"
        raise
    finally:
        metrics.messages.labels(topic.name, outcome).inc()
        metrics.message_duration_seconds.labels(topic.name).observe(time.perf_counter() - started)
