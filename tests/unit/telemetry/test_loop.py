"""The event loop's lag, on a clock of its own."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from app.telemetry.loop import EVERY_S, watch_loop
from app.telemetry.metrics import Metrics
from tests.support.virtual_time import run_at_once


class Late:
    """A clock that stands still for a while: what a call that blocks the loop looks like to everybody else."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time, self.behind = loop.time, 0.0
        loop.time = lambda: self.time() + self.behind  # type: ignore[method-assign]


def lags(blocked_s: float) -> tuple[float, float]:
    """How many lags are taken down in two seconds of which so much is lost at once, and their sum in seconds."""
    registry = CollectorRegistry()
    lag = Metrics(registry).event_loop_lag_seconds

    async def watched() -> None:
        watching = asyncio.create_task(watch_loop(lag))
        late = Late(asyncio.get_running_loop())
        await asyncio.sleep(EVERY_S * 1.5)
        late.behind = blocked_s
        await asyncio.sleep(EVERY_S * 2)
        watching.cancel()

    run_at_once(watched())
    name = "trellis_event_loop_lag_seconds"
    return registry.get_sample_value(f"{name}_count") or 0, registry.get_sample_value(f"{name}_sum") or 0


def test_a_loop_that_is_never_blocked_is_never_late() -> None:
    count, total = lags(0)
    assert count >= 3
    assert total == pytest.approx(0, abs=0.001)


def test_a_call_that_blocks_is_seen_as_long_as_it_took() -> None:
    _, total = lags(5.0)
    assert total == pytest.approx(5.0 - EVERY_S / 2, abs=0.001)
