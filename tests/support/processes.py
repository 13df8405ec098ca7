"""Child processes of tests: started with this interpreter, ended by their id."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Child:
    """A module run with `python -m`; killed at the end of the block if it still runs."""

    def __init__(self, module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=20)

    def wait_for_line(self, line: str) -> None:
        """Until it prints `line`; raises AssertionError with its errors where it ends without."""
        assert self.process.stdout is not None
        for printed in self.process.stdout:
            if printed.strip() == line:
                return
        raise AssertionError(f"the process ended: {self.process.communicate(timeout=20)[1]}")

    def kill(self) -> None:
        """SIGKILL: nothing of its own runs any more."""
        self.process.kill()
        self.process.wait(timeout=20)

    def terminate(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Raises AssertionError naming `what` where it does not hold in time."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def ended(pid: int) -> Callable[[], bool]:
    """Whether the process of that number runs no more, for `wait_until`."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # Nobody waits for an orphan in a container without an init: it is dead all the same.
        status = Path(f"/proc/{pid}/stat")
        return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"

    return gone
