"""PostgreSQL servers of the test run's own: in temporary folders, on loopback, ended by their process ids.

As fixtures: `postgres_server` (one for the session), `postgres_url` (one database for the session),
`fresh_postgres_url` (a new, empty database for the test) and `migrated_postgres` (a new database with every table, and
the two logins of a deployment).
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

import pytest

from app.ids import new_id
from tests.support import guard
from tests.support.components import missing, require
from tests.support.databases import APP, OWNER, Addresses, create_logins, make_template

USER = "trellis"
"""The superuser, for the tests alone."""
START_TIMEOUT_S = 180.0
MEMORY_WANTED = 4 << 30  # bytes
_ALWAYS = ("max_connections=200", "wal_keep_size=512MB", "wal_receiver_status_interval=1")
# A test's data need not outlive the machine's power. The log's writer is quick: a replica must not wait for it.
FAST = ("fsync=off", "full_page_writes=off", "wal_writer_delay=10ms")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def unprivileged() -> tuple[int, int] | None:
    """Whom to run servers as that refuse root. None where we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError("this machine has neither a user 'postgres' nor 'nobody' to run PostgreSQL as")


def run_as() -> dict[str, Any]:
    """The same, for subprocess."""
    user = unprivileged()
    return {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}


def temporary_folder(prefix: str, *, in_memory: bool) -> Path:
    """A folder that the unprivileged user may write in."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_memory_folder() if in_memory else None))
    user = unprivileged()
    if user is not None:
        os.chown(folder, *user)
    return folder


def _memory_folder() -> str | None:
    """A folder in memory where there is a roomy one: a hundred small databases cost a disk its time."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > MEMORY_WANTED else None


def until(holds: Callable[[], object], reason: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Raises RuntimeError with the reason where it does not hold in time; an unreachable server does not hold."""
    import psycopg

    deadline = time.monotonic() + timeout_s
    while True:
        with suppress(psycopg.OperationalError):
            if holds():
                return
        if time.monotonic() > deadline:
            raise RuntimeError(reason)
        time.sleep(0.02)


class Node:
    """One server over a folder of its own. `fast`: without care for the disk, in memory where there is room."""

    def __init__(self, binaries: Path, *, fast: bool = True) -> None:
        self.binaries = binaries
        self.fast = fast
        self.folder = temporary_folder("trellis-pg-", in_memory=fast)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str, login: str = USER) -> str:
        return f"postgresql+asyncpg://{login}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", login: str = USER) -> Any:
        """A connection of psycopg that commits each statement."""
        import psycopg

        where = f"host=127.0.0.1 port={self.port} user={login} dbname={database}"
        return psycopg.connect(where, autocommit=True, connect_timeout=5)

    def scalar(self, query: str, database: str = "postgres") -> Any:
        with self.connect(database) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def do(self, *statements: str, database: str = "postgres") -> None:
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def start(self) -> None:
        """Also after `kill` or `stop`, over the same data."""
        options = [part for option in (*_ALWAYS, *(FAST if self.fast else ())) for part in ("-c", option)]
        where = ["-D", self.data, "-k", self.folder, "-h", "127.0.0.1", "-p", self.port]
        with (self.folder / "log").open("ab") as log:
            self._process = guard.start(
                [self.binaries / "postgres", *where, *options],
                self.folder,
                at_end=signal.SIGQUIT,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                **run_as(),
            )
        until(self._answers, "PostgreSQL does not answer")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
        self.connect().close()
        return True

    def kill(self) -> None:
        """As where the machine fails: SIGKILL to the server and to all its processes."""
        if self._process is not None:
            children = _children(self._process.pid)
            self._process.kill()
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            guard.end(self._process)

    def stop(self) -> None:
        """In order: what was committed is on the disk, and on every replica that is connected."""
        if self._process is not None:
            guard.end(self._process, signal.SIGINT)

    def remove(self) -> None:
        if self._process is not None:
            # At once, without a last checkpoint: the data is thrown away.
            guard.end(self._process, signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *arguments: Any) -> None:
        """One of the server's own programs, as the server's user."""
        command = [str(part) for part in (self.binaries / program, *arguments)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, **run_as())
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")


def _children(pid: int) -> list[int]:
    """Empty where the system does not tell: a server's processes end by themselves when they miss it."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


class Replica(Node):
    """A streaming standby; all databases of the primary are in it."""

    def __init__(self, primary: Node) -> None:
        super().__init__(primary.binaries, fast=primary.fast)
        self.name = f"standby_{self.port}"
        self._primary = primary

    def copy(self) -> None:
        """All of the primary, and the address to follow it by."""
        where = f"host=127.0.0.1 port={self._primary.port} user={USER} application_name={self.name}"
        self.run("pg_basebackup", "-d", where, "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def pause_replay(self) -> None:
        """It goes on receiving, and shows no more of it."""
        self.do("SELECT pg_wal_replay_pause()")
        until(lambda: self.scalar("SELECT pg_get_wal_replay_pause_state()") == "paused", "replay does not pause")

    def resume_replay(self) -> None:
        self.do("SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        """Returns when it takes writes."""
        self.do("SELECT pg_promote(true, 60)")
        until(lambda: not self.scalar("SELECT pg_is_in_recovery()"), "the standby is not promoted")

    def catch_up(self) -> None:
        """Until it shows everything that the primary has written by now."""
        wanted = self._primary.scalar("SELECT pg_current_wal_flush_lsn()")
        until(
            lambda: self.scalar(f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'"),
            f"the standby is not at {wanted}",
        )


class PostgresServer(Node):
    """A primary. Started on entry; stopped, and its folder removed, on exit."""

    def __init__(self, binaries: Path, *, fast: bool = True) -> None:
        super().__init__(binaries, fast=fast)
        self._template: str | None = None

    def __enter__(self) -> Self:
        try:
            how = ("-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            self.run("initdb", "-D", self.data, "-U", USER, *how)
            self.start()
            create_logins(self)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    @contextmanager
    def replica(self, *, synchronous: bool = False) -> Iterator[Replica]:
        """A new standby. `synchronous`: from now on a commit is told when the standby has it."""
        standby = Replica(self)
        try:
            standby.copy()
            standby.start()
            follows = f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{standby.name}'"
            until(lambda: self.scalar(f"{follows} AND state = 'streaming'"), "the standby does not follow")
            if synchronous:
                self.wait_for_standbys(standby.name)
                until(lambda: self.scalar(f"{follows} AND sync_state = 'sync'"), "the standby is not synchronous")
            yield standby
        finally:
            standby.remove()

    def wait_for_standbys(self, *names: str) -> None:
        """Commits are told when one of these has them; without names, at once."""
        wanted = f"FIRST 1 ({', '.join(names)})" if names else ""
        self.do(f"ALTER SYSTEM SET synchronous_standby_names = '{wanted}'", "SELECT pg_reload_conf()")

    @overload
    def new_database(self, migrated: Literal[False] = False) -> str: ...

    @overload
    def new_database(self, migrated: Literal[True]) -> Addresses: ...

    def new_database(self, migrated: bool = False) -> str | Addresses:
        """The address of a new, empty database for the superuser; with `migrated`, both logins' to one with tables."""
        name = new_id("db")
        if not migrated:
            self.do(f'CREATE DATABASE "{name}"')
            return self.url(name)
        if self._template is None:
            self._template = make_template(self)
        self.do(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}" OWNER {OWNER}')
        return Addresses(name, self.url(name, OWNER), self.url(name, APP))

    def drop_database(self, name: str) -> None:
        """Whoever is still connected to it."""
        self.do(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def open_server(*, fast: bool = True) -> PostgresServer:
    """A server to enter; the test is skipped (or fails) where this machine has none."""
    return PostgresServer(require("postgres").resolve().parent, fast=fast)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    try:
        server = open_server().__enter__()
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


@pytest.fixture
def migrated_postgres(postgres_server: PostgresServer) -> Iterator[Addresses]:
    """A database with every table that no other test sees, and the addresses of its owner and of the app."""
    found = postgres_server.new_database(migrated=True)
    yield found
    postgres_server.drop_database(found.name)
