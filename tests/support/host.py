"""The whole service for rules that hypothesis tries: on an event loop of its own, kept for a module."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, settings

from tests.support.service import Service, running


@dataclass
class Host:
    """`portal.call` runs a coroutine function beside the service."""

    portal: BlockingPortal
    service: Service


@contextmanager
def hosted(home: Path) -> Iterator[Host]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running(home, knowledge=False)) as service,
    ):
        yield Host(portal, service)


def sequences(examples: int) -> settings:
    """For long sequences of steps: a failing one is shown as it was found, since making it shorter takes too long."""
    return settings(
        phases=[Phase.generate],
        deadline=None,
        max_examples=examples,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
