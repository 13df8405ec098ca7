"""Retries, by stamina: exponential waits with jitter, a provider's Retry-After honoured, always inside a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from app.errors import Retryable

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently. Seconds; `wait_max_s` also bounds a Retry-After that is waited for."""

    attempts: int = 2
    wait_initial_s: float = 0.1
    wait_max_s: float = 2.0
    wait_jitter_s: float = 0.1


async def with_retries(
    call: Callable[[], Awaitable[Result]],
    *,
    policy: RetryPolicy,
    deadline: float,
    retryable: Callable[[Exception], bool],
    allowed: Callable[[], bool] = lambda: True,
) -> Result:
    """The first result, or the last exception.

    Args:
        deadline: of the event loop's clock. A wait that would pass it is not begun.
        retryable: whether an exception is worth another attempt.
        allowed: asked last, once before each further attempt.
    """
    # Stamina takes over from the first failure: it would cost more than the rest of a turn where there is none.
    try:
        return await call()
    except Exception as error:
        first: Exception | None = error
    loop = asyncio.get_running_loop()
    attempts_left = policy.attempts

    def wait(error: Exception) -> bool | float:
        nonlocal attempts_left
        attempts_left -= 1
        if not attempts_left or not retryable(error):
            return False
        asked = retry_after(error)
        if (asked or 0.0) > policy.wait_max_s or loop.time() + (asked or policy.wait_initial_s) >= deadline:
            return False
        if not allowed():
            return False
        return True if asked is None else asked

    attempts = stamina.retry_context(
        on=wait,
        attempts=policy.attempts,
        timeout=None,
        wait_initial=policy.wait_initial_s,
        wait_max=policy.wait_max_s,
        wait_jitter=policy.wait_jitter_s,
    )
    async for attempt in attempts:
        with attempt:
            if first is not None:
                failed, first = first, None
                raise failed
            return await call()
    raise AssertionError("stamina ends with a result or an exception")


def may_pass(error: Exception) -> bool:
    """Whether an exception says, by type or by its attribute `retryable`, that it may pass by itself."""
    stated = getattr(error, "retryable", None)
    if isinstance(stated, bool):
        return stated
    return isinstance(error, Retryable | TimeoutError | ConnectionError)


def retry_after(error: Exception) -> float | None:
    """Seconds that an exception asks to wait, where it says so."""
    stated = getattr(error, "retry_after", None)
    return float(stated) if isinstance(stated, int | float) else None
