"""Processes: ours by what they print, others by the ports that they listen on, and everything below them."""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.server import ROOT

PROC: Final = Path("/proc")
_LISTENS: Final = "0A"
_PATIENCE_S: Final = 20.0


@contextmanager
def printing(arguments: Sequence[str], log: Path) -> Iterator[str]:
    """What a program of ours (`-m module ...`) prints first, which is its address; its errors are in the log.

    Its input ends with the block, and where this process is killed; then SIGTERM ends it. Raises RuntimeError where it
    ends before.
    """
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line:
                raise RuntimeError(f"{arguments[1]} did not start: {log.read_text()[-1000:]}")
            yield line
            process.stdin.close()
        finally:
            end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """SIGTERM; SIGKILL where that is not enough."""
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def port_of(url: str) -> int:
    return int(url.removesuffix("/v1").rpartition(":")[2])


def listeners(ports: Iterable[int]) -> Mapping[int, int]:
    """By port: the first process that listens on it. Empty where the system has no /proc."""
    wanted = set(ports)
    sockets = {f"socket:[{inode}]": port for port, inode in _listening() if port in wanted}
    found: dict[int, int] = {}
    for pid in _pids() if sockets else ():
        with suppress(OSError):
            for entry in os.scandir(PROC / str(pid) / "fd"):
                with suppress(OSError):
                    port = sockets.get(os.readlink(entry.path))
                    if port is not None:
                        found.setdefault(port, pid)
    return found


def children() -> Mapping[int, Sequence[int]]:
    """Of every process on the machine now; read it once for many questions."""
    found: dict[int, list[int]] = {}
    for pid in _pids():
        with suppress(OSError):
            found.setdefault(_parent(pid), []).append(pid)
    return found


def families(roots: Iterable[int], known: Mapping[int, Sequence[int]] | None = None) -> Sequence[int]:
    """These processes and all below them, those that still are. `known`: of `children()`."""
    below = children() if known is None else known
    found: list[int] = []
    waiting = [pid for pid in roots if (PROC / str(pid)).exists()]
    while waiting:
        found.append(waiting.pop())
        waiting += below.get(found[-1], ())
    return found


def _listening() -> Iterator[tuple[int, str]]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENS:
                    yield int(columns[1].rpartition(":")[2], 16), columns[9]


def _pids() -> Sequence[int]:
    with suppress(OSError):
        return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())
    return []


def _parent(pid: int) -> int:
    # The name in brackets may hold anything.
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
