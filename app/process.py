"""What a process says to the system before it does anything else: how it ends, and how it gives memory back."""

import asyncio
import ctypes
import gc
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

ARENAS: Final = 2
LARGE: Final = 128 * 1024
"""Bytes; a piece of this size is a mapping of its own, given back when it is freed."""
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
"""Of glibc's malloc.h."""
_TERMINATED: Final = 128 + signal.SIGTERM


def few_arenas() -> None:
    """To be called before any thread starts; does nothing where the C library is another than glibc.

    glibc gives threads arenas of their own, up to eight for each core, and what one of them freed no other takes up. A
    worker has forty threads, of which one at a time runs Python: its memory grew with the time it had worked (figures:
    docs/decisions/0018-treatment-runs.md). And glibc raises the size of `LARGE` with each such piece that is freed,
    up to 32 MB, so that arrays come to lie in arenas too: saying it once keeps it. The same as MALLOC_ARENA_MAX=2 and
    MALLOC_MMAP_THRESHOLD_=131072 in the environment.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_MMAP_THRESHOLD, LARGE)


def freeze_heap() -> None:
    """To be called once a process has started, before its first request: what is there now stays until its end.

    The collector's oldest generation otherwise holds every module and every schema: a full collection walked 260,000
    objects, and all requests waited for it.
    """
    gc.collect()
    gc.freeze()


def end_on_sigterm() -> None:
    """A process that is still starting, or runs a command, ends when it is asked to, also as the first of a container:
    the kernel gives that one no signal that it does not handle. A server replaces this once it runs."""
    signal.signal(signal.SIGTERM, _end)


@contextmanager
def cancelled_by(*signals: signal.Signals) -> Iterator[None]:
    """Each of them cancels the task that entered, also while its loop waits: a handler that is not the loop's own runs
    only once something else wakes it. For the main thread."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in signals:
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)
