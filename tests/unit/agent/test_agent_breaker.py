import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.agent.breaker import Breaker, BreakerOpen, Breakers, BreakerState
from app.telemetry.metrics import Metrics


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def breaker(seconds: Seconds) -> Breaker:
    return Breaker("crm", failures=3, window_s=10, open_s=5, clock=seconds)


def fail(what: Breaker, error: BaseException | None = None) -> None:
    with pytest.raises((ValueError, BreakerOpen)), what.guard(lambda e: isinstance(e, ValueError)):
        raise error or ValueError("down")


def succeed(what: Breaker) -> None:
    with what.guard():
        pass


def test_it_opens_after_enough_failures_in_the_window_and_says_how_long(seconds: Seconds) -> None:
    crm = breaker(seconds)
    fail(crm)
    seconds.now = 11
    fail(crm)
    fail(crm)
    assert crm.state is BreakerState.CLOSED
    fail(crm)
    assert crm.state is BreakerState.OPEN
    seconds.now = 12
    with pytest.raises(BreakerOpen, match="'crm' failed repeatedly") as refused:
        succeed(crm)
    assert refused.value.retry_after == 4


def test_failures_between_successes_leave_it_closed_and_a_row_of_them_opens_it(seconds: Seconds) -> None:
    crm = breaker(seconds)
    for _ in range(20):
        fail(crm)
        fail(crm)
        succeed(crm)
    assert crm.state is BreakerState.CLOSED
    for _ in range(3):
        fail(crm)
    assert crm.state is BreakerState.OPEN


def test_exactly_one_probe_goes_through_and_its_success_closes_it(seconds: Seconds) -> None:
    crm = breaker(seconds)
    for _ in range(3):
        fail(crm)
    seconds.now = 5
    with crm.guard():
        assert crm.state is BreakerState.HALF_OPEN
        for _ in range(3):
            with pytest.raises(BreakerOpen):
                succeed(crm)
    assert crm.state is BreakerState.CLOSED
    fail(crm)
    assert crm.state is BreakerState.CLOSED


def test_a_failed_probe_opens_it_anew(seconds: Seconds) -> None:
    crm = breaker(seconds)
    for _ in range(3):
        fail(crm)
    seconds.now = 5
    fail(crm)
    assert crm.state is BreakerState.OPEN
    seconds.now = 9
    with pytest.raises(BreakerOpen):
        succeed(crm)
    seconds.now = 10
    succeed(crm)
    assert crm.state is BreakerState.CLOSED


def test_a_cancelled_probe_frees_its_place(seconds: Seconds) -> None:
    crm = breaker(seconds)
    for _ in range(3):
        fail(crm)
    seconds.now = 5
    with pytest.raises(asyncio.CancelledError), crm.guard():
        raise asyncio.CancelledError
    succeed(crm)
    assert crm.state is BreakerState.CLOSED


def test_an_error_that_does_not_count_shows_that_the_part_is_alive(seconds: Seconds) -> None:
    crm = breaker(seconds)
    for _ in range(3):
        fail(crm)
    seconds.now = 5
    with pytest.raises(KeyError), crm.guard(lambda error: isinstance(error, ValueError)):
        raise KeyError
    assert crm.state is BreakerState.CLOSED


def test_the_verdict_of_a_call_from_before_the_change_counts_for_nothing(seconds: Seconds) -> None:
    crm = breaker(seconds)
    late_success, late_failure = crm.guard(), crm.guard()
    late_success.__enter__()
    late_failure.__enter__()
    for _ in range(3):
        fail(crm)
    late_success.__exit__(None, None, None)
    assert crm.state is BreakerState.OPEN
    seconds.now = 5
    probe = crm.guard()
    probe.__enter__()
    late_failure.__exit__(ValueError, ValueError(), None)
    assert crm.state is BreakerState.HALF_OPEN
    probe.__exit__(None, None, None)
    assert crm.state is BreakerState.CLOSED


@given(st.lists(st.sampled_from(["begin", "succeed", "fail", "cancel", "wait"]), max_size=60))
def test_whatever_happens_at_most_one_call_is_on_its_way_while_it_is_not_closed(events: list[str]) -> None:
    seconds = Seconds()
    crm = Breaker("crm", failures=2, window_s=10, open_s=5, clock=seconds)
    calls: list[tuple[int, bool]] = []
    for event in events:
        if event == "wait":
            seconds.now += 3
        elif event == "begin":
            try:
                was_closed = crm.state is BreakerState.CLOSED
                calls.append((crm.admit(), not was_closed))
            except BreakerOpen:
                assert crm.state is not BreakerState.CLOSED
        elif calls:
            era, _ = calls.pop()
            {"succeed": crm.succeeded, "fail": crm.failed, "cancel": crm.abandoned}[event](era)
        probes = [probe for era, probe in calls if probe and era == crm._era]
        assert len(probes) <= 1


def test_scopes_have_breakers_of_their_own_and_the_metric_shows_the_worst(seconds: Seconds) -> None:
    metrics = Metrics(CollectorRegistry())
    breakers = Breakers(metrics, failures=1, window_s=10, open_s=5, clock=seconds)

    def shown() -> float | None:
        return metrics.registry.get_sample_value("trellis_breaker_state", {"name": "tool:crm"})

    acme, other = breakers.get("tool:crm", "acme"), breakers.get("tool:crm", "other")
    assert breakers.get("tool:crm", "acme") is acme
    assert shown() == BreakerState.CLOSED
    fail(acme)
    assert (acme.state, other.state, shown()) == (BreakerState.OPEN, BreakerState.CLOSED, BreakerState.OPEN)
    succeed(other)
    assert shown() == BreakerState.OPEN
    seconds.now = 5
    succeed(acme)
    assert shown() == BreakerState.CLOSED


def test_each_opening_is_counted_however_short_it_is(seconds: Seconds) -> None:
    metrics = Metrics(CollectorRegistry())
    breakers = Breakers(metrics, failures=1, window_s=10, open_s=5, clock=seconds)
    opened: list[float | None] = []
    for scope in ("acme", "other"):
        breaker = breakers.get("tool:crm", scope)
        opened.append(metrics.registry.get_sample_value("trellis_breaker_opened_total", {"name": "tool:crm"}))
        fail(breaker)
        seconds.now += 5
        succeed(breaker)
    assert opened == [0, 1]
    assert metrics.registry.get_sample_value("trellis_breaker_opened_total", {"name": "tool:crm"}) == 2
