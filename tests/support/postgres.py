"""A PostgreSQL server of the test run's own: in a temporary folder, on loopback, ended by its process id.

As fixtures: `postgres_url` (one database for the session) and `fresh_postgres_url` (a new database for the test).
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from app.ids import new_id
from tests.support.components import missing, require

USER = "trellis"
START_TIMEOUT_S = 60.0
MEMORY_WANTED = 4 << 30  # bytes
# A test's data need not outlive the machine's power.
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "max_connections=200")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _memory_folder() -> str | None:
    """A folder in memory where there is a roomy one: a hundred small databases cost a disk its time."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > MEMORY_WANTED else None


def _unprivileged() -> tuple[int, int] | None:
    """Whom to run as: PostgreSQL refuses root. None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError("this machine has neither a user 'postgres' nor 'nobody' to run PostgreSQL as")


class PostgresServer:
    """Started on entry; stopped, and its folder removed, on exit."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="trellis-pg-", dir=_memory_folder()))
        self._user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def new_database(self) -> str:
        """The address of a new, empty database."""
        import psycopg

        name = new_id("db")
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/{name}"

    def _dsn(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={database}"

    def _run_as(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user[0], "group": self._user[1], "extra_groups": []}

    def _start(self) -> None:
        if self._user is not None:
            os.chown(self._folder, *self._user)
        data = self._folder / "data"
        command = [
            self._binaries / "initdb",
            "-D",
            data,
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]
        made = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, **self._run_as())
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr.strip()}")
        settings = [part for setting in FAST for part in ("-c", setting)]
        server = [self._binaries / "postgres", "-D", data, "-k", self._folder, "-h", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*server, *settings], cwd=self._folder, stdout=log, stderr=log, start_new_session=True, **self._run_as()
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self._dsn("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"PostgreSQL did not start: {(self._folder / 'log').read_text()[-2000:]}"
                    ) from None
                time.sleep(0.1)

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # At once, without a last checkpoint: the data is thrown away.
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=30)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    binaries = require("postgres").resolve().parent
    try:
        server = PostgresServer(binaries).__enter__()
    except (RuntimeError, OSError) as error:
        missing("postgres", str(error))
        raise
    yield server
    server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def postgres_url(postgres_server: PostgresServer) -> str:
    """One database for the whole session (postgresql+asyncpg)."""
    return postgres_server.new_database()


@pytest.fixture
def fresh_postgres_url(postgres_server: PostgresServer) -> str:
    """A database that no other test sees (postgresql+asyncpg)."""
    return postgres_server.new_database()
