"""The C library's memory for many threads: few arenas, so that what a process holds does not creep up."""

import ctypes
import sys
from typing import Final

ARENAS: Final = 2
_M_ARENA_MAX: Final = -8
"""Of glibc's malloc.h."""


def few_arenas() -> None:
    """To be called before any thread starts; does nothing where the C library is another than glibc.

    glibc gives threads arenas of their own, up to eight for each core, and what one of them freed no other takes up. A
    worker has forty threads, of which one at a time runs Python: its memory grew with the time it had worked (figures:
    docs/decisions/0018-treatment-runs.md). The same as MALLOC_ARENA_MAX=2 in the environment.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
