"""`python -m app.beside.keeper FD FILE`: keeps programs beside the server, and ends them when it ends, however it does.

The server holds the other end of the pipe FD and never writes: the system closes it with the process, also with one
that was killed. FILE is a JSON list of `{"command": [...], "log": path}`. Only the standard library: it stays small.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

END_S = 10.0
_PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""


def keep(pipe: int, programs: Sequence[Mapping[str, Any]]) -> None:
    """Returns when the server has ended, its programs with it."""
    with contextlib.ExitStack() as stack:
        for program in programs:
            stack.enter_context(_running(program["command"], Path(program["log"])))
        os.read(pipe, 1)


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - what the server's own launch wrote
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=_ends_with_its_parent
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ends_with_its_parent() -> None:
    """Where the system can: also a keeper that was killed leaves nothing behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main(pipe: str, file: str) -> None:
    signal.signal(signal.SIGTERM, _end)
    keep(int(pipe), json.loads(Path(file).read_bytes()))


if __name__ == "__main__":
    main(*sys.argv[1:])
