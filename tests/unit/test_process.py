"""What a process says to the system: its heap, and which task its signals end."""

import asyncio
import gc
import os
import signal

import pytest

from app.process import cancelled_by, freeze_heap


def test_a_frozen_heap_is_not_walked_again():
    kept = [[] for _ in range(1000)]
    freeze_heap()
    try:
        assert gc.get_freeze_count() > len(kept)
        walked = {id(one) for one in gc.get_objects()}
        assert not walked.intersection(map(id, kept))
    finally:
        gc.unfreeze()


def test_a_signal_cancels_the_task_that_waits_and_is_as_before_behind_it():
    async def waits() -> None:
        with cancelled_by(signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(waits())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
