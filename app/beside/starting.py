"""Starts Prometheus and Alertmanager where their programs are; nothing here may keep the server from starting."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from app.beside import config
from app.settings import Settings

FOLDER: Final = "monitoring"
PID_FILE: Final = "keeper.pid"
READY_S: Final = 10.0
END_S: Final = 25.0
POLL_S: Final = 0.05
_PROGRAMS: Final = {
    "prometheus": (("prometheus",), 9090),
    "alertmanager": (("alertmanager", "prometheus-alertmanager"), 9093),
}
"""Names of the program, Debian's last, and its usual port."""
_LOST: Final = {
    "prometheus": "no alert is checked and no graph is kept",
    "alertmanager": "alerts are seen in Prometheus only",
}


@dataclass(frozen=True, slots=True)
class Line:
    """What is said of one program: its name, and its address or why it does not run and what that costs."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Beside:
    """What was started. `addresses`: job -> host:port. `instead`: said in place of every address."""

    home: Path
    addresses: Mapping[str, str]
    instead: str | None = None

    def lines(self) -> Sequence[Line]:
        """One for each program, after waiting some seconds until it answers."""
        if self.instead is not None:
            return (Line("Alerts", self.instead),)
        until = time.monotonic() + READY_S
        return tuple(Line(job.capitalize(), self._line(job, until)) for job in _PROGRAMS)

    def _line(self, job: str, until: float) -> str:
        if job not in self.addresses:
            return f"not started: no {job} on the path, so {_LOST[job]}"
        address = f"http://{self.addresses[job]}"
        while time.monotonic() < until:
            if _answers(f"{address}/-/ready"):
                return address
            time.sleep(POLL_S)
        return f"does not answer, so {_LOST[job]}: look at {self.home / f'{job}.log'}"


def start(settings: Settings, pipe: int) -> Beside:
    """Starts a keeper of what is on the path; the server must hold the writing end of `pipe`.

    What goes wrong is told in the lines and stops nothing.
    """
    home = settings.home.absolute() / FOLDER
    files = config.committed(settings.phase)
    if not settings.monitoring:
        return Beside(home, {}, "not watched: TRELLIS_MONITORING is off")
    if not files.there():
        return Beside(home, {}, f"not watched: no files for phase {settings.phase} in provisioning/")
    found = {job: program for job, (names, _) in _PROGRAMS.items() if (program := _which(names))}
    if "prometheus" not in found:
        # Nothing would be sent to an Alertmanager alone.
        return Beside(home, {})
    try:
        addresses = {job: f"127.0.0.1:{_port(_PROGRAMS[job][1])}" for job in found}
        home.mkdir(exist_ok=True, mode=0o700)
        _spawn(home, pipe, _commands(settings, files, home, found, addresses))
    except OSError as error:
        return Beside(home, {}, f"not watched: {home} cannot be used ({error.strerror})")
    except yaml.YAMLError:
        return Beside(home, {}, f"not watched: {files.prometheus} is no YAML; `make generated` writes it anew")
    return Beside(home, addresses)


def _which(names: Sequence[str]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def _port(usual: int) -> int:
    """The usual one, or a free one where that is taken."""
    for port in (usual, 0):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as found:
            return int(found.getsockname()[1])
    raise OSError(0, "no port is free")


def _commands(
    settings: Settings,
    files: config.Files,
    home: Path,
    found: Mapping[str, str],
    addresses: Mapping[str, str],
) -> Mapping[str, list[str]]:
    asked = {"trellis-api": _reachable(settings), **addresses, **_exporters()}
    told = home / "prometheus.yaml"
    told.write_text(yaml.safe_dump(dict(config.prometheus(files.prometheus, asked, settings.region)), sort_keys=False))
    commands = {
        "prometheus": config.prometheus_command(found["prometheus"], told, home / "prometheus", addresses["prometheus"])
    }
    if "alertmanager" in found:
        commands["alertmanager"] = config.alertmanager_command(
            found["alertmanager"], files.alertmanager, home / "alertmanager", addresses["alertmanager"]
        )
    return commands


def _reachable(settings: Settings) -> str:
    """The server's address as this machine asks it: one that stands for all addresses cannot be asked."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - not listened on
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def _exporters() -> Mapping[str, str]:
    """node_exporter, where one runs on its usual port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 9100), timeout=0.2):
        return {"node": "127.0.0.1:9100"}
    return {}


def _spawn(home: Path, pipe: int, commands: Mapping[str, list[str]]) -> None:
    programs = home / "programs.json"
    programs.write_text(
        json.dumps([{"command": line, "log": str(home / f"{job}.log")} for job, line in commands.items()])
    )
    with (home / "keeper.log").open("ab") as log:
        # A session of its own, as the server's: a Ctrl-C at the terminal reaches it only when the server has ended.
        keeper = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "app.beside.keeper", str(pipe), str(programs)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(pipe,),
        )
    (home / PID_FILE).write_text(f"{keeper.pid}\n")


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1):
            return True
    except OSError:
        return False


def prometheus_address(settings: Settings) -> str | None:
    """Of the one that runs beside this machine's server; None where none does."""
    home = settings.home.absolute() / FOLDER
    listens = "--web.listen-address="
    try:
        if not _runs(int((home / PID_FILE).read_text())):
            return None
        programs = json.loads((home / "programs.json").read_text())
        command = next(one["command"] for one in programs if one["log"] == str(home / "prometheus.log"))
        found = next(word for word in command if word.startswith(listens))
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return f"http://{found.removeprefix(listens)}"


def ended(settings: Settings) -> None:
    """Waits until what ran beside the server, which has ended, is gone too; ends it where it takes too long."""
    file = settings.home.absolute() / FOLDER / PID_FILE
    try:
        pid = int(file.read_text())
    except (OSError, ValueError):
        return
    until = time.monotonic() + END_S
    while _runs(pid):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGTERM)
            break
        time.sleep(POLL_S)
    file.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Whether the keeper does, and not another program that got its number later."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:
        # Where there is no /proc the number is believed.
        return not Path("/proc").exists()
    return b"app.beside.keeper" in command
