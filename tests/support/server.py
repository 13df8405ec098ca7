"""The service as a process of its own, on a free port, over a data folder that outlives it. It ends with the run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support import guard

ROOT = Path(__file__).parent.parent.parent
READY_S = 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trellis(
    home: Path, port: int, *arguments: str, check: bool = True, **settings: str
) -> subprocess.CompletedProcess[str]:
    """One command of the command line, to its end."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    found = subprocess.run(
        command, cwd=ROOT, env=environment(home, port, **settings), capture_output=True, text=True, timeout=170
    )
    if check and found.returncode:
        raise AssertionError(f"{arguments} ended with {found.returncode}: {found.stderr[-2000:]}{found.stdout[-2000:]}")
    return found


def environment(home: Path, port: int, **settings: str) -> dict[str, str]:
    """This process's environment without its own settings, nothing beside it, and a terminal wide enough for tables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
    own = {"TRELLIS_HOME": str(home), "TRELLIS_PORT": str(port), "TRELLIS_MONITORING": "false", "COLUMNS": "160"}
    return kept | own | settings


class Server:
    """`trellis serve` over `home`. Killed at the end of the block if it still runs."""

    command = "serve"

    def __init__(self, home: Path, port: int, *arguments: str, **settings: str) -> None:
        self.home, self.port = home, port
        self.address = f"http://127.0.0.1:{port}"
        self.log = (home / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.entry", self.command, *arguments],
            cwd=ROOT,
            env=environment(home, port, **settings),
            stdout=self.log,
            stderr=self.log,
        )
        guard.hold(self.process, signal.SIGTERM)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self._ended(20)
        self.log.close()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {(self.home / 'server.log').read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.address}/readyz", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server was not ready in time")

    def kill(self) -> None:
        """SIGKILL: nothing of its own runs any more."""
        self.process.send_signal(signal.SIGKILL)
        self._ended(20)

    def terminate(self) -> int:
        self.process.terminate()
        return self._ended(40)

    def _ended(self, timeout_s: float) -> int:
        code = self.process.wait(timeout_s)
        guard.let_go(self.process)
        return code

    def text(self, path: str) -> str:
        """What anybody may read. Raises HTTPError for an error answer."""
        with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as response:
            return response.read().decode()

    def call(self, path: str, key: str, body: bytes | None = None, **headers: str) -> Any:
        """The JSON answer. Raises HTTPError for an error answer."""
        request = urllib.request.Request(self.address + path, data=body)
        for name, value in {"Authorization": f"Bearer {key}", **headers}.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)


class WorkerProcess(Server):
    """`trellis worker` over `home`: jobs, probes and figures."""

    command = "worker"


class ApiProcess(Server):
    """`trellis api` over `home`: no worker inside."""

    command = "api"
