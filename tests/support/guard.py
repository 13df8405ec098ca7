"""Servers of a test run that end with it, also where the run itself is killed.

A child process holds a list of them and waits for the end of its input, which the end of the run is, however it comes.
"""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PATIENCE_S = 10.0
_ONE = threading.Lock()


def start(command: list[Any], folder: Path, *, at_end: int = signal.SIGKILL, **how: Any) -> "subprocess.Popen[bytes]":
    """A server in a session of its own, which no Ctrl-C reaches. `folder` is removed where the run cannot."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True, **how)
    hold(process, at_end, folder)
    return process


def hold(process: "subprocess.Popen[bytes]", at_end: int, folder: Path | None = None) -> None:
    """From now on it ends with the run, until it is let go. `folder`, if any, is removed with it."""
    _tell(f"+\t{process.pid}\t{int(at_end)}\t{folder.absolute() if folder else ''}")


def let_go(process: "subprocess.Popen[bytes]") -> None:
    """It has ended: its number may be another one's soon."""
    _tell(f"-\t{process.pid}")


def end(process: "subprocess.Popen[bytes]", how: int = signal.SIGKILL) -> None:
    """Ends it if it still runs, and waits."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=10)
    let_go(process)


@functools.cache
def _watcher(_run: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-S", __file__], stdin=subprocess.PIPE, start_new_session=True, text=True, bufsize=1
    )


def _tell(line: str) -> None:
    # Servers are started in threads, and of two watchers one would be dropped with what it holds.
    with _ONE:
        # A forked child of the run is not the run.
        pipe = _watcher(os.getpid()).stdin
        assert pipe is not None
        pipe.write(f"{line}\n")
        pipe.flush()


def watch() -> None:
    left: dict[int, tuple[int, str]] = {}
    for line in sys.stdin:
        sign, pid, *rest = line.rstrip("\n").split("\t")
        if sign == "+":
            left[int(pid)] = (int(rest[0]), rest[1])
        else:
            left.pop(int(pid), None)
    for pid, (how, _) in left.items():
        _signal(pid, how)
    deadline = time.monotonic() + PATIENCE_S
    for pid, (_, folder) in left.items():
        while _signal(pid, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal(pid, signal.SIGKILL)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _signal(pid: int, how: int) -> bool:
    """Whether it was there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
        return True
    return False


if __name__ == "__main__":
    watch()
