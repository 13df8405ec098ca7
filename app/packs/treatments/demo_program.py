"""The program's own commands as child processes over one data folder; how much memory they took."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.errors import ConfigError

LOG_FILE: Final = "demo.log"
POLL_S: Final = 0.05
GRACE_S: Final = 20.0
_MAXRSS_BYTES: Final = 1 if sys.platform == "darwin" else 1024
_HIGH_WATER: Final = re.compile(rb"^VmHWM:\s*(\d+) kB$", re.MULTILINE)


class Child:
    """A command under way. `peak` is the most memory (bytes) that it was seen to hold, `killed` says whether `kill`
    ended it."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.killed = False
        self.peak = 0

    def ended(self) -> int | None:
        """Its exit code, None while it runs. To be asked now and then: that is how its memory is seen."""
        if self._process.returncode is None:
            self._look()
            pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                # Without /proc. Elsewhere it would also count what the parent held when it forked.
                self.peak = self.peak or usage.ru_maxrss * _MAXRSS_BYTES
        return self._process.returncode

    async def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        while True:
            code = self.ended()
            if code is not None:
                return code
            await asyncio.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL: nothing of its own runs any more."""
        self.killed = self.ended() is None
        self._end_at_once()

    def end(self) -> None:
        """As Ctrl-C would: it may finish what it is at, and is killed where that takes too long."""
        try:
            self._signal(signal.SIGTERM)
            if not self._wait(GRACE_S):
                self._end_at_once()
        except KeyboardInterrupt:
            self._end_at_once()
            raise

    def _end_at_once(self) -> None:
        self._signal(signal.SIGKILL)
        self._wait(GRACE_S)

    def _look(self) -> None:
        with contextlib.suppress(OSError):
            found = _HIGH_WATER.search(Path(f"/proc/{self._process.pid}/status").read_bytes())
            self.peak = max(self.peak, int(found[1]) * 1024 if found else 0)

    def _signal(self, number: int) -> None:
        if self.ended() is None:
            os.kill(self._process.pid, number)

    def _wait(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while self.ended() is None:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True


def _free_port() -> int:
    """For a worker's probes: the usual port may be a running server's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """`home` is the data folder. No other setting of this process is passed on: nothing of its user's is touched, and
    models are the offline one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        own = {name: value for name, value in os.environ.items() if not name.upper().startswith("TRELLIS_")}
        self._environment = own | {"TRELLIS_HOME": str(home)}

    async def command(self, *arguments: str, secret: bool = False) -> None:
        """Runs it to its end; what it prints goes to the log, unless it is a secret.

        Raises ConfigError with its last words where it fails.
        """
        with self.child(*arguments, secret=secret) as child:
            code = await child.wait()
        if code:
            raise ConfigError(f"`trellis {' '.join(arguments)}` failed: {self.last_words()}")

    @contextlib.contextmanager
    def child(self, *arguments: str, secret: bool = False) -> Iterator[Child]:
        """A command beside this process, ended with the block."""
        command = [sys.executable, "-m", "app.cli", *arguments]
        with (self.home / LOG_FILE).open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal reaches it only through us, once.
            process = subprocess.Popen(  # noqa: S603 - our own program
                command,
                env=self._environment | {"TRELLIS_PORT": str(_free_port())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if secret else log,
                stderr=log,
                start_new_session=True,
            )
        child = Child(process)
        try:
            yield child
        finally:
            child.end()

    def last_words(self) -> str:
        lines = (self.home / LOG_FILE).read_text(errors="replace").strip().splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else f"look at {self.home / LOG_FILE}."
