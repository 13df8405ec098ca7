"""Fixtures of every tier: a database with every table, a clock that stands still, no way off this machine."""

import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings
from sqlalchemy import create_engine

from app.storage.base import Base
from app.storage.db import Database

pytest_plugins = ["tests.support.postgres", "tests.support.redis", "tests.support.servers"]

# A rule holds or it does not; how fast a shared machine is says nothing about it.
settings.register_profile("trellis", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=8)
settings.load_profile(os.environ.get("TRELLIS_HYPOTHESIS", "trellis"))

LOOPBACK = {"127.0.0.1", "::1", "localhost", ""}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The closing list of what this machine could not run, and what would let it."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    if not reasons:
        terminalreporter.write_line("Nothing was skipped.")
        return
    terminalreporter.section("not run on this machine")
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count:4d} x {reason}")
    terminalreporter.write_line(
        "`make deps` installs what is missing; TRELLIS_REQUIRE_ALL=1 turns these into failures."
    )


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine is an error, in every test."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address[0]}")

    def guarded(sock: socket.socket, address: Any) -> None:
        check(sock, address)
        connect(sock, address)

    def guarded_ex(sock: socket.socket, address: Any) -> int:
        check(sock, address)
        return connect_ex(sock, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture(autouse=True, scope="session")
def loggers_are_not_cached() -> Iterator[None]:
    """A module's logger that once kept its configuration keeps it for every later test of the process."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", lambda **how: configure(**how | {"cache_logger_on_first_use": False}))
        yield


@pytest.fixture(autouse=True)
def plain_loggers() -> None:
    """Loggers as they are before anything configures them: a former test's may write to a stream that is closed."""
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def plain_umask() -> Iterator[None]:
    """Files as open as machines make them: a command that ran in this process keeps all of the next to its user."""
    os.umask(0o022)
    yield
    os.umask(0o022)


class StillClock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every table that the collected tests import, made once and copied: making it takes 50 ms."""
    path = tmp_path_factory.mktemp("template") / "trellis.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    return path


@pytest.fixture
async def db(tmp_path: Path, empty_database: Path) -> AsyncIterator[Database]:
    """An embedded database in a file of its own, with every table."""
    database = Database(f"sqlite+aiosqlite:///{shutil.copy(empty_database, tmp_path / 'trellis.db')}")
    yield database
    await database.close()
