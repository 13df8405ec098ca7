"""`trellis up` and `trellis down`: the PoC phase on this machine, started, watched and ended."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app import beside
from app.errors import ConfigError, TrellisError
from app.settings import Settings, load_settings

READY_TIMEOUT_S = 120.0
DECIDED_TIMEOUT_S = 120.0
POLL_S = 0.1
SHOWN_DECISIONS = 8
PID_FILE, LOG_FILE = "trellis.pid", "trellis.log"
# EADDRINUSE on macOS, Linux and Windows.
_IN_USE = frozenset({48, 98, 10048})


class Client:
    """Talks to the server of this machine; knows the local key once the server has made it."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.address
        self._key_file = settings.local_key_file
        # A proxy of the environment has no business between this machine and itself.
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def get(self, path: str, *, method: str = "GET") -> Any:
        """The JSON answer; None where the server does not answer with success."""
        request = urllib.request.Request(self._address + path, method=method)  # noqa: S310 - our own address, http
        with contextlib.suppress(OSError):
            request.add_header("Authorization", f"Bearer {self._key_file.read_text().strip()}")
        try:
            with self._open(request, timeout=5) as response:
                return json.load(response)
        except (OSError, ValueError):
            return None


def up(settings: Settings, console: Console, *, detach: bool) -> None:
    """Starts the server as a process of its own, shows what it does, and ends it on Ctrl-C unless detached.

    Raises ConfigError where the data folder, the port or the server's own start is at fault.
    """
    started = time.monotonic()
    prepare_home(settings)
    refuse_running(settings)
    refuse_taken_port(settings)
    process, watched = _spawn(settings)
    client = Client(settings)
    with _ended(process, settings, keep=detach):
        with console.status(f"Starting Trellis (log: {settings.home / LOG_FILE})"):
            _wait_until(process, client, settings, "/healthz")
        console.print(_addresses(settings, client, watched))
        _print_link(settings, client, console)
        _watch(console, process, client, started)
        # The other packs' samples may still be loading.
        _wait_until(process, client, settings, "/readyz")
        _offer_chat(client, console)
        if detach:
            console.print(f"Running in the background as process {process.pid}; `make down` ends it.")
            return
        console.print("Running. Ctrl-C ends it.")
        process.wait()
        raise ConfigError(f"The server ended by itself: {_last_words(settings)}")


def down(settings: Settings, console: Console) -> None:
    """Ends the server of this data folder, waiting for its running work."""
    pid = running_pid(settings)
    if pid is None:
        console.print(f"Nothing to end: no Trellis runs in the data folder {settings.home.absolute()}.")
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + _longest_end_s(settings)
    while running_pid(settings) is not None:
        if time.monotonic() > until:
            raise ConfigError(f"Process {pid} has not ended in time: look at {settings.home / LOG_FILE}, then kill it.")
        time.sleep(POLL_S)
    (settings.home / PID_FILE).unlink(missing_ok=True)
    beside.ended(settings)
    console.print(f"Ended process {pid}.")


def _longest_end_s(settings: Settings) -> float:
    return settings.drain_s + settings.shutdown_grace_s + 10


def prepare_home(settings: Settings) -> None:
    """Makes the data folder; what this process writes from now on is its user's alone, also in a folder of others.

    Raises ConfigError where making it, or writing in it, is refused.
    """
    os.umask(0o077)
    home = settings.home.absolute()
    probe = home / ".writable"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"The data folder {home} cannot be written ({error.strerror}): set TRELLIS_HOME to one that can."
        ) from None


def running_pid(settings: Settings) -> int | None:
    """The process of this data folder's server, where it still runs."""
    try:
        pid = int((settings.home / PID_FILE).read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return None if _is_zombie(pid) or not _is_ours(pid) else pid


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _is_zombie(pid: int) -> bool:
    return b") Z " in _proc(pid, "stat")


def _is_ours(pid: int) -> bool:
    """Not another program that got the number later; where /proc is absent the file is believed."""
    command = _proc(pid, "cmdline")
    return not command or b"app.cli" in command


def refuse_running(settings: Settings) -> None:
    pid = running_pid(settings)
    if pid is not None:
        raise ConfigError(f"Trellis runs here already (process {pid}, {settings.address}): `make down` ends it.")


def refuse_taken_port(settings: Settings) -> None:
    """Raises ConfigError where something listens on the port, or the address is not this machine's."""
    try:
        with socket.create_server((settings.host, settings.port), family=_family(settings.host)):
            return
    except PermissionError:
        reason = "may not be used by this user"
    except OSError as error:
        reason = "is taken" if error.errno in _IN_USE else f"cannot be used ({error.strerror})"
    raise ConfigError(f"Port {settings.port} of {settings.host} {reason}: set TRELLIS_PORT to a free one.")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _spawn(settings: Settings) -> "tuple[subprocess.Popen[bytes], beside.Beside]":
    """The server, and what runs beside it for as long as it does."""
    command = [sys.executable, "-m", "app.cli", "serve", "--sample"]
    ends, held = os.pipe()
    try:
        with (settings.home / LOG_FILE).open("ab") as log:
            # A session of its own: a Ctrl-C at the terminal reaches the server only through us, once.
            process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(held,)
            )
        (settings.home / PID_FILE).write_text(f"{process.pid}\n")
        # Only the server holds the pipe's end from here on.
        os.close(held)
        return process, beside.start(settings, ends)
    finally:
        os.close(ends)


@contextlib.contextmanager
def _ended(process: "subprocess.Popen[bytes]", settings: Settings, *, keep: bool) -> Iterator[None]:
    """Ends the server with the block; a detached one only where the block failed."""
    try:
        yield
    except BaseException:
        _end(process, settings)
        raise
    if not keep:
        _end(process, settings)


def _end(process: "subprocess.Popen[bytes]", settings: Settings) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_longest_end_s(settings))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    (settings.home / PID_FILE).unlink(missing_ok=True)
    beside.ended(settings)


def _wait_until(process: "subprocess.Popen[bytes]", client: Client, settings: Settings, path: str) -> None:
    until = time.monotonic() + READY_TIMEOUT_S
    while client.get(path) is None:
        if process.poll() is not None:
            raise ConfigError(_last_words(settings))
        if time.monotonic() > until:
            raise ConfigError(f"Not ready after {READY_TIMEOUT_S:.0f} s: look at {settings.home / LOG_FILE}.")
        time.sleep(POLL_S)


def _last_words(settings: Settings) -> str:
    lines = (settings.home / LOG_FILE).read_text(errors="replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"the server did not start: look at {settings.home / LOG_FILE}."


def _addresses(settings: Settings, client: Client, watched: beside.Beside) -> Table:
    status = client.get("/v1/status") or {}
    targets = settings.targets.targets
    table = Table(title=f"Trellis, phase {settings.phase}", show_header=False, title_justify="left")
    p99 = f"{targets.answer_p99_s:g} s" if targets.answer_p99_s else "none promised"
    rows = (
        ("Console", f"{settings.address}/console"),
        ("API docs", f"{settings.address}/docs"),
        ("Metrics", f"{settings.address}/metrics"),
        *((line.name, line.text) for line in watched.lines()),
        ("API key", f"in {settings.local_key_file}"),
        ("Model", str(status.get("model", "unknown"))),
        ("Answers, p50 / p99", f"{targets.answer_p50_s:g} s / {p99}"),
        ("Our own share, p99", f"{targets.own_share_p99_s * 1000:g} ms"),
        ("Failed requests", f"below {targets.failed_share:.1%} in 30 days"),
        ("Budget", f"{settings.targets.budget_usd_month} USD a month"),
        ("Data", str(settings.home.absolute())),
    )
    for name, value in rows:
        table.add_row(name, value)
    return table


def _print_link(settings: Settings, client: Client, console: Console) -> None:
    """On lines of its own, whole at any width: a link that is cut opens nothing."""
    link = client.get("/v1/console/links", method="POST")
    if link is not None:
        console.print("Sign in to the console with this link, once, within 10 minutes (or with the API key):")
        console.print(f"{settings.address}{link['path']}", soft_wrap=True, highlight=False, markup=False)


def _watch(console: Console, process: "subprocess.Popen[bytes]", client: Client, started: float) -> None:
    """The sample leads being decided, until all are, with the latest ones in a table."""
    bar = Progress(
        TextColumn("Deciding leads"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    task = bar.add_task("leads", total=None)
    first: float | None = None
    until = time.monotonic() + DECIDED_TIMEOUT_S
    with Live(bar, console=console, transient=True):
        while time.monotonic() < until and process.poll() is None:
            counts = client.get("/v1/leads/counts") or {"total": 0, "by_status": {"new": 0}}
            leads, waiting = counts["total"], counts["by_status"]["new"]
            bar.update(task, total=leads or None, completed=leads - waiting)
            if first is None and leads > waiting and _decisions(client, 1):
                first = time.monotonic() - started
            if leads and not waiting:
                break
            time.sleep(POLL_S)
    console.print(_latest(client))
    if first is not None:
        console.print(f"First decided lead after {first:.1f} s.")
    _tell_undecided(client, console)


def _offer_chat(client: Client, console: Console) -> None:
    """Where the handbook of the samples is there to be asked."""
    if client.get("/v1/bots/handbook") is not None:
        console.print(
            'Ask the handbook: .venv/bin/trellis chat --as you "How many days of leave do I have?"',
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def _decisions(client: Client, limit: int) -> list[Any]:
    found = client.get(f"/v1/decisions?limit={limit}") or {"items": []}
    return list(found["items"])


def _tell_undecided(client: Client, console: Console) -> None:
    """Leads that went to a person because the model gave no answer: no success, so it is said."""
    total = (client.get("/v1/metrics/business") or {}).get("total", {})
    undecided = total.get("volume", 0) - total.get("decided", 0)
    if undecided:
        console.print(
            f"{undecided} leads could not be decided and wait for a person: the model did not answer. "
            "A lead's timeline says why; `.venv/bin/trellis leads decide-again` tries them again.",
            style="bold red",
        )


def _latest(client: Client) -> Table:
    table = Table(title="The latest decisions", title_justify="left")
    for column in ("Decision", "Action", "Sure", "Why"):
        table.add_column(column, overflow="fold" if column == "Why" else "ellipsis", no_wrap=column != "Why")
    for item in _decisions(client, SHOWN_DECISIONS):
        table.add_row(item["id"], item["action"], f"{item['confidence']:.0%}", item["reason"])
    return table


def main(arguments: Sequence[str]) -> int:
    """`python -m app.launch up [--detach] | down`: without the import of the whole app, which takes seconds."""
    console = Console()
    try:
        settings = load_settings()
        if arguments[:1] == ["down"]:
            down(settings, console)
        else:
            up(settings, console, detach="--detach" in arguments)
    except TrellisError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
