"""A bell ends the wait without stopping; slots ring it when half of them are free."""

import threading

from app.jobs.bell import Bell, Slots


def rung(bell: Bell) -> bool:
    """Whether it was rung since the last look."""
    was = bell._rung.is_set()
    bell.wait(0)
    return was


def test_a_ring_before_the_wait_ends_it_at_once_and_only_once() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait(3600) is False
    assert not rung(bell)


def test_a_wait_without_a_ring_ends_with_its_timeout() -> None:
    assert Bell().wait(0.001) is False


def test_setting_ends_every_wait_from_then_on() -> None:
    bell = Bell()
    bell.set()
    assert bell.wait(3600) is True
    assert bell.is_set()


def test_a_ring_from_another_thread_ends_a_wait_that_has_begun() -> None:
    bell = Bell()
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(bell.wait(3600)))
    waiter.start()
    bell.ring()
    waiter.join(timeout=20)
    assert answers == [False]


def test_slots_ring_only_their_own_bell_and_once_half_of_them_are_free() -> None:
    bells = {"a": Bell(), "b": Bell()}
    slots = Slots({"a": 4, "b": 1}, bells)
    for _ in range(4):
        slots.take("a")
    slots.free("a")
    assert not rung(bells["a"])
    slots.free("a")
    assert rung(bells["a"])
    assert not rung(bells["b"])


def test_a_queue_of_one_rings_after_each_job() -> None:
    bells = {"one": Bell()}
    slots = Slots({"one": 1}, bells)
    for _ in range(2):
        slots.take("one")
        slots.free("one")
        assert rung(bells["one"])
